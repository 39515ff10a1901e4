//! `mvmp.Policy`: a rule with what is jumped over, without a platform.

use mvmp_policy::rule::Explanation;
use mvmp_policy::{Matcher, Packets, Rule};
use mvmp_wire::packet::{Headers, LayerSet, Link, Stack, TunnelPorts, View, parse, walk_stack};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict, PyString};

use crate::bytes::Bytes;
use crate::errors::{Place, from_rule, policy_error};

/// Packets that a matcher looks at in one go.
pub const CHUNK: usize = 64;

/// A rule of the policy language.
#[pyclass(frozen, module = "mvmp")]
pub struct Policy {
    rule: Rule,
    matcher: Matcher,
    /// What `decap` and `strip` name: for a rule they are the same.
    jump: LayerSet,
    ports: TunnelPorts,
}

impl Policy {
    /// Which of these frames match: bit `i` is frame `i`, of at most [`CHUNK`].
    pub fn mask(&self, frames: &[&[u8]], links: &[Link]) -> u64 {
        let received = frames.iter().zip(links);
        let outer: Vec<Headers> = received
            .clone()
            .map(|(frame, link)| parse(frame, *link))
            .collect();
        if self.jump.is_empty() && !self.matcher.needs().stack {
            return self.matcher.match_burst(&outer, frames);
        }
        let walked = received.map(|(frame, link)| {
            let mut stack = Stack::default();
            walk_stack(frame, *link, &self.ports, &mut stack);
            stack
        });
        let stacks: Vec<Stack> = walked.collect();
        let views: Vec<View> = stacks.iter().map(|stack| stack.view(self.jump)).collect();
        let delivered: Vec<&[u8]> = views
            .iter()
            .zip(frames)
            .map(|(view, frame)| view.of(frame))
            .collect();
        let parsed = views
            .iter()
            .zip(&delivered)
            .map(|(view, frame)| parse(frame, view.link));
        let headers: Vec<Headers> = parsed.collect();
        self.matcher.match_packets(&Packets {
            headers: &headers,
            frames: &delivered,
            outer: &outer,
            outer_frames: frames,
            stacks: &stacks,
            wire_lengths: &[],
        })
    }
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

    /// Whether an Ethernet frame matches.
    fn matches(&self, frame: Bytes) -> bool {
        self.mask(&[frame.as_slice()], &[Link::Ethernet]) == 1
    }

    /// Which of these Ethernet frames match.
    fn match_many<'py>(&self, py: Python<'py>, frames: Vec<Bytes>) -> Bound<'py, PyArray1<bool>> {
        let frames: Vec<&[u8]> = frames.iter().map(Bytes::as_slice).collect();
        let mut mask = Vec::with_capacity(frames.len());
        for chunk in frames.chunks(CHUNK) {
            let bits = self.mask(chunk, &[Link::Ethernet; CHUNK][..chunk.len()]);
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
