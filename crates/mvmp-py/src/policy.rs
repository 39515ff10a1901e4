//! `mvmp.Policy`: a rule with what is jumped over, without a platform.

use mvmp_policy::rule::{Explanation, Needs};
use mvmp_policy::{Matcher, Packets, Rule};
use mvmp_wire::packet::{Headers, LayerSet, Link, Stack, TunnelPorts, parse, walk_stack};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict, PyString};

use crate::bytes::Bytes;
use crate::errors::{Place, from_rule, policy_error};

/// Packets that a matcher looks at in one go.
pub const CHUNK: usize = 64;

/// A packet that a policy is asked about.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// As it was delivered, and what its first byte is.
    pub delivered: (&'a [u8], Link),
    /// The frame that it was received in, likewise.
    pub received: (&'a [u8], Link),
    /// Bytes of that on the wire.
    pub wire_length: u32,
}

impl<'a> Asked<'a> {
    /// A frame of which nothing was jumped over.
    pub fn whole(frame: &'a [u8], link: Link) -> Self {
        Self {
            delivered: (frame, link),
            received: (frame, link),
            wire_length: frame.len().try_into().unwrap_or(u32::MAX),
        }
    }
}

/// A rule of the policy language.
#[pyclass(frozen, module = "mvmp")]
pub struct Policy {
    rule: Rule,
    matcher: Matcher,
    /// What `decap` and `strip` name: for a rule they are the same.
    jump: LayerSet,
    /// What is a tunnel where no platform says it.
    ports: TunnelPorts,
}

impl Policy {
    /// Whether the answer depends on more than the packet as delivered.
    pub fn asks_of_received(&self) -> bool {
        self.matcher.needs() != Needs::default()
    }

    /// Which of these packets match: bit `i` is packet `i`, of at most [`CHUNK`]. `ports` say what is a tunnel.
    pub fn mask(&self, packets: &[Asked<'_>], ports: &TunnelPorts) -> u64 {
        let seen = packets.iter().map(|packet| self.seen(packet, ports));
        let (frames, headers) = parsed(seen);
        if !self.asks_of_received() {
            return self.matcher.match_burst(&headers, &frames);
        }
        let received = packets.iter().map(|packet| packet.received);
        let walked = received.clone().map(|(frame, link)| {
            let mut stack = Stack::default();
            walk_stack(frame, link, ports, &mut stack);
            stack
        });
        let stacks: Vec<Stack> = walked.collect();
        let (outer_frames, outer) = parsed(received);
        let wire_lengths: Vec<u32> = packets.iter().map(|packet| packet.wire_length).collect();
        self.matcher.match_packets(&Packets {
            headers: &headers,
            frames: &frames,
            outer: &outer,
            outer_frames: &outer_frames,
            stacks: &stacks,
            wire_lengths: &wire_lengths,
        })
    }

    /// What is left of a packet as delivered when this policy's own layers are jumped over.
    fn seen<'a>(&self, packet: &Asked<'a>, ports: &TunnelPorts) -> (&'a [u8], Link) {
        let (frame, link) = packet.delivered;
        if self.jump.is_empty() {
            return packet.delivered;
        }
        let mut stack = Stack::default();
        walk_stack(frame, link, ports, &mut stack);
        let view = stack.view(self.jump);
        (view.of(frame), view.link)
    }
}

/// Frames, and their headers.
fn parsed<'a>(frames: impl Iterator<Item = (&'a [u8], Link)>) -> (Vec<&'a [u8]>, Vec<Headers>) {
    frames
        .map(|(frame, link)| (frame, parse(frame, link)))
        .unzip()
}

/// The layers that `decap=` or `strip=` names: a word or several.
fn layers(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<LayerSet> {
    let Some(value) = value else {
        return Ok(LayerSet::EMPTY);
    };
    let words: Vec<String> = if value.is_instance_of::<PyString>() {
        vec![value.extract()?]
    } else {
        value.extract()?
    };
    words.iter().try_fold(LayerSet::EMPTY, |all, word| {
        match LayerSet::from_word(word) {
            Some(layer) => Ok(all.union(layer)),
            None => {
                let known: Vec<&str> = LayerSet::AUTO.words().collect();
                let place = Place {
                    line: 1,
                    column: 1,
                    hint: Some(format!(
                        "the layers are {}, or `auto` for all",
                        known.join(", ")
                    )),
                };
                Err(policy_error(
                    format!("{name}: `{word}` is no layer that can be jumped over"),
                    place,
                ))
            }
        }
    })
}

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (rule, *, decap = None, strip = None))]
    fn new(
        py: Python<'_>,
        rule: &str,
        decap: Option<&Bound<'_, PyAny>>,
        strip: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let jump = layers("decap", decap)?.union(layers("strip", strip)?);
        // libpcap may ask the resolver.
        let rule = py.detach(|| Rule::parse(rule)).map_err(from_rule)?;
        let matcher = rule.compile();
        Ok(Self {
            rule,
            matcher,
            jump,
            ports: TunnelPorts::default(),
        })
    }

    /// Whether an Ethernet frame matches; tunnels are those of the usual UDP ports.
    fn matches(&self, frame: Bytes) -> bool {
        let frame = Asked::whole(frame.as_slice(), Link::Ethernet);
        self.mask(&[frame], &self.ports) == 1
    }

    /// Which of these Ethernet frames match, likewise.
    fn match_many<'py>(&self, py: Python<'py>, frames: Vec<Bytes>) -> Bound<'py, PyArray1<bool>> {
        let frames = frames.iter().map(Bytes::as_slice);
        let frames: Vec<Asked<'_>> = frames
            .map(|frame| Asked::whole(frame, Link::Ethernet))
            .collect();
        let mut mask = Vec::with_capacity(frames.len());
        for chunk in frames.chunks(CHUNK) {
            let bits = self.mask(chunk, &self.ports);
            mask.extend((0..chunk.len()).map(|bit| bits >> bit & 1 == 1));
        }
        mask.into_pyarray(py)
    }

    /// What the rule says, in plain words.
    fn explain(&self) -> String {
        self.rule.explain().to_string()
    }

    fn __str__(&self) -> String {
        self.rule.text().to_owned()
    }

    fn __repr__(&self) -> String {
        let words: Vec<&str> = self.jump.words().collect();
        if words.is_empty() {
            format!("Policy({:?})", self.rule.text())
        } else {
            format!("Policy({:?}, decap={words:?})", self.rule.text())
        }
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.rule == other.rule && self.jump == other.jump
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.rule.to_string().hash(&mut hasher);
        self.jump.hash(&mut hasher);
        hasher.finish()
    }
}

/// What a rule says and costs: a dict of `canonical`, `tree`, `indexed`, `cost`, `notes` and `text`.
#[pyfunction]
pub fn explain_policy<'py>(py: Python<'py>, rule: &str) -> PyResult<Bound<'py, PyDict>> {
    let explanation = py
        .detach(|| Rule::parse(rule))
        .map_err(from_rule)?
        .explain();
    let text = explanation.to_string();
    let Explanation {
        canonical,
        tree,
        indexed,
        cost,
        notes,
    } = explanation;
    let dict = PyDict::new(py);
    dict.set_item("canonical", canonical)?;
    dict.set_item("tree", tree)?;
    dict.set_item("indexed", indexed)?;
    dict.set_item("cost", cost)?;
    dict.set_item("notes", notes)?;
    dict.set_item("text", text)?;
    Ok(dict)
}
