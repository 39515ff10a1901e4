//! Which buffers a driver may still refer to by an indirect mbuf.

/// Buffers that an indirect mbuf may still speak of. There are none where nobody sends what
/// others hold, and then nobody need look.
pub struct Clones {
    /// By granule.
    of: Box<[bool]>,
    count: u32,
}

impl Clones {
    /// None so far.
    pub fn new(granules: usize) -> Self {
        Self {
            of: vec![false; granules].into_boxed_slice(),
            count: 0,
        }
    }

    /// Notes one.
    pub fn note(&mut self, granule: u32) {
        let was = std::mem::replace(&mut self.of[granule as usize], true);
        self.count += u32::from(!was);
    }

    /// Whether it was one.
    #[inline(always)]
    pub fn forget(&mut self, granule: u32) -> bool {
        if self.count == 0 {
            return false;
        }
        let was = std::mem::replace(&mut self.of[granule as usize], false);
        self.count -= u32::from(was);
        was
    }
}
