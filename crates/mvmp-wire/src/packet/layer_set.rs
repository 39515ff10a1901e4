//! Which layers a policy has jumped over: the words of `decap` and `strip`.

/// A set of layers that `decap` and `strip` name; each is jumped over as often as it occurs.
///
/// `gre` covers NVGRE too (it is GRE with a key); ERSPAN has a word of its own, which covers the
/// GRE header that carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LayerSet(u16);

/// The words, in the order of the bits.
const WORDS: [&str; 10] = [
    "vlan", "mpls", "pppoe", "gre", "nvgre", "erspan", "vxlan", "geneve", "ipip", "gtp",
];

impl LayerSet {
    /// No layer.
    pub const EMPTY: Self = Self(0);
    /// 802.1Q and 802.1ad tags.
    pub const VLAN: Self = Self(1);
    /// MPLS labels, and the control word of a pseudowire behind them.
    pub const MPLS: Self = Self(1 << 1);
    /// PPPoE sessions, with the PPP header in them.
    pub const PPPOE: Self = Self(1 << 2);
    /// GRE with its IP header; NVGRE too.
    pub const GRE: Self = Self(1 << 3);
    /// NVGRE (RFC 7637): GRE that carries Ethernet under a key.
    pub const NVGRE: Self = Self(1 << 4);
    /// ERSPAN of types I, II and III, with its GRE.
    pub const ERSPAN: Self = Self(1 << 5);
    /// VXLAN (RFC 7348).
    pub const VXLAN: Self = Self(1 << 6);
    /// GENEVE (RFC 8926), with its options.
    pub const GENEVE: Self = Self(1 << 7);
    /// IP directly in IP, of either version in either.
    pub const IPIP: Self = Self(1 << 8);
    /// GTP-U (TS 29.281), user packets only.
    pub const GTP: Self = Self(1 << 9);
    /// All of them: the word `auto`.
    pub const AUTO: Self = Self((1 << WORDS.len()) - 1);

    /// Those that are links to a tunnel and not one themselves: they never stand in its way.
    pub(super) const TAGS: Self = Self(Self::VLAN.0 | Self::MPLS.0 | Self::PPPOE.0);

    /// The set that this word names.
    pub fn from_word(word: &str) -> Option<Self> {
        if word == "auto" {
            return Some(Self::AUTO);
        }
        let bit = WORDS.iter().position(|known| *known == word)?;
        Some(Self(1 << bit))
    }

    /// The words of the layers in the set, each alone (never `auto`).
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        WORDS
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, word)| word)
    }

    /// What is in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in it but not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in it.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it names no layer.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_names_one_layer_and_auto_names_all() {
        let mut all = LayerSet::EMPTY;
        for word in LayerSet::AUTO.words() {
            let one = LayerSet::from_word(word).expect("its own word");
            assert_eq!(one.words().collect::<Vec<_>>(), [word]);
            assert!(!all.intersects(one));
            all = all.union(one);
        }
        assert_eq!(Some(all), LayerSet::from_word("auto"));
        assert_eq!(LayerSet::from_word("VLAN"), None);
        assert!(all.contains(LayerSet::GTP) && LayerSet::default().is_empty());
    }
}
