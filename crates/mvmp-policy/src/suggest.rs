//! "Did you mean …?": the nearest of the words that would have been right.

/// Beyond this no word of ours is near, and the distance costs time that grows with the square.
const WORD_BYTES_MAX: usize = 64;

/// The candidate that `word` was most likely meant to be: mistyped, or abbreviated.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let candidates: Vec<_> = candidates.into_iter().collect();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    let mistyped = candidates
        .iter()
        .map(|candidate| (distance(candidate), *candidate));
    mistyped
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
        .or_else(|| {
            candidates
                .into_iter()
                .find(|candidate| abbreviates(&word, candidate))
        })
}

/// `iface` for `interface`: the same first letter, and the others in order.
fn abbreviates(word: &str, candidate: &str) -> bool {
    let mut rest = candidate.chars();
    word.len() >= 4
        && word.chars().next() == candidate.chars().next()
        && word.chars().all(|wanted| rest.any(|found| found == wanted))
}

/// The same as a sentence: ``did you mean `tcp`?``
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_word_is_recognised() {
        assert_eq!(nearest("tpc", ["udp", "tcp"]), Some("tcp"));
    }

    #[test]
    fn capitals_do_not_matter() {
        assert_eq!(nearest("TCP", ["udp", "tcp"]), Some("tcp"));
        assert_eq!(nearest("nic1", ["up", "NIC1"]), Some("NIC1"));
    }

    #[test]
    fn an_abbreviation_is_recognised() {
        assert_eq!(
            nearest("iface", ["devargs", "interface"]),
            Some("interface")
        );
        assert_eq!(
            nearest("idle_nap", ["ring", "idle_nap_us"]),
            Some("idle_nap_us")
        );
    }

    #[test]
    fn a_word_that_is_like_none_gets_no_suggestion() {
        assert_eq!(nearest("banana", ["udp", "tcp"]), None);
        assert_eq!(nearest(&"t".repeat(65), ["t"]), None);
    }
}
