//! `mvmp.Policy`: a rule, without a platform.

use mvmp_policy::{Matcher, Rule};
use mvmp_wire::packet::{Headers, Link, parse};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::bytes::Bytes;
use crate::errors::{Place, from_rule, policy_error};

/// Packets that a matcher looks at in one go.
pub const CHUNK: usize = 64;

/// A rule of the policy language.
#[pyclass(frozen, module = "mvmp")]
pub struct Policy {
    rule: Rule,
    matcher: Matcher,
}

impl Policy {
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }
}

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (rule, *, decap = None, strip = None))]
    fn new(
        rule: &str,
        decap: Option<&Bound<'_, PyAny>>,
        strip: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        for (word, value) in [("decap", decap), ("strip", strip)] {
            if value.is_some_and(|value| value.is_truthy().unwrap_or(true)) {
                let message = format!("1:1: {word} is not supported yet");
                let hint =
                    Some("leave it out: the rule then speaks of the packet as received".to_owned());
                return Err(policy_error(
                    message,
                    Place {
                        line: 1,
                        column: 1,
                        hint,
                    },
                ));
            }
        }
        let rule = Rule::parse(rule).map_err(from_rule)?;
        let matcher = rule.compile();
        Ok(Self { rule, matcher })
    }

    /// Whether an Ethernet frame matches.
    fn matches(&self, frame: Bytes) -> bool {
        let frame = frame.as_slice();
        self.matcher.matches(&parse(frame, Link::Ethernet), frame)
    }

    /// Which of these Ethernet frames match.
    fn match_many<'py>(&self, py: Python<'py>, frames: Vec<Bytes>) -> Bound<'py, PyArray1<bool>> {
        let frames: Vec<&[u8]> = frames.iter().map(Bytes::as_slice).collect();
        let mut mask = Vec::with_capacity(frames.len());
        for chunk in frames.chunks(CHUNK) {
            let headers: Vec<Headers> = chunk
                .iter()
                .map(|frame| parse(frame, Link::Ethernet))
                .collect();
            let bits = self.matcher.match_burst(&headers, chunk);
            mask.extend((0..chunk.len()).map(|bit| bits >> bit & 1 == 1));
        }
        mask.into_pyarray(py)
    }

    /// What the rule says, in plain words.
    fn explain(&self) -> String {
        self.rule.explain()
    }

    fn __str__(&self) -> String {
        self.rule.text().to_owned()
    }

    fn __repr__(&self) -> String {
        format!("Policy({:?})", self.rule.text())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.rule == other.rule
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.rule.to_string().hash(&mut hasher);
        hasher.finish()
    }
}
