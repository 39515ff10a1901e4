//! Where tokens come from.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::worker::buffers::BURST;

const TOKENS: usize = 1024;

/// Unpredictable non-zero words, drawn in batches from ChaCha8 keyed by the operating system.
pub struct Tokens {
    rng: ChaCha8Rng,
    bytes: Box<[u8; TOKENS * 4]>,
    words: Box<[u32; TOKENS]>,
    next: usize,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(secret)")
    }
}

impl Tokens {
    /// A source that nobody can foretell.
    pub fn new() -> Self {
        Self {
            rng: ChaCha8Rng::from_seed(rand::random()),
            bytes: Box::new([0; TOKENS * 4]),
            words: Box::new([0; TOKENS]),
            next: TOKENS,
        }
    }

    /// The next 64, of which some are taken.
    #[inline(always)]
    pub fn ahead(&mut self) -> &[u32; BURST] {
        if self.next > TOKENS - BURST {
            self.refill();
        }
        let ahead = self.words[self.next..].first_chunk();
        ahead.expect("there are as many left")
    }

    /// So many of them are taken.
    #[inline(always)]
    pub fn spend(&mut self, count: usize) {
        self.next += count;
    }

    #[cold]
    #[inline(never)]
    fn refill(&mut self) {
        self.rng.fill_bytes(&mut *self.bytes);
        let (chunks, _) = self.bytes.as_chunks();
        for (word, chunk) in self.words.iter_mut().zip(chunks) {
            // 0 means "not held".
            *word = u32::from_le_bytes(*chunk).max(1);
        }
        self.next = 0;
    }
}
