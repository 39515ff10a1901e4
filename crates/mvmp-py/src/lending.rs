//! What a burst and its sub-bursts share: the packets, which of them are viewed, whether they are kept.
//!
//! The lock is only tried, never waited for: its holder may be a sender that waits without the
//! GIL, and whoever waited for it here would hold the GIL that the other needs.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use mvmp_nf::{NfError, View, Which};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::errors::{busy, from_nf};

#[derive(Debug)]
pub struct Lending {
    burst: Mutex<mvmp_nf::Burst>,
    views: OnceLock<Box<[AtomicU32]>>,
    viewed: AtomicUsize,
    guards: Mutex<Vec<View>>,
    kept: AtomicBool,
    len: usize,
}

impl Lending {
    pub fn new(burst: mvmp_nf::Burst) -> Self {
        Self {
            len: burst.len(),
            burst: Mutex::new(burst),
            views: OnceLock::new(),
            viewed: AtomicUsize::new(0),
            guards: Mutex::new(Vec::new()),
            kept: AtomicBool::new(false),
        }
    }

    /// Packets received, those that have left included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn lock(&self) -> PyResult<MutexGuard<'_, mvmp_nf::Burst>> {
        match self.burst.try_lock() {
            Ok(burst) => Ok(burst),
            Err(TryLockError::Poisoned(burst)) => Ok(burst.into_inner()),
            Err(TryLockError::WouldBlock) => Err(busy()),
        }
    }

    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Notes a view of a packet's bytes. The caller holds the lock.
    pub fn add_view(&self, burst: &impl Deref<Target = mvmp_nf::Burst>, index: usize) {
        let views = self
            .views
            .get_or_init(|| (0..self.len).map(|_| AtomicU32::new(0)).collect());
        views[index].fetch_add(1, Ordering::SeqCst);
        self.viewed.fetch_add(1, Ordering::SeqCst);
        self.guards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(burst.view());
    }

    pub fn drop_view(&self, index: usize) {
        if let Some(count) = self.views.get().and_then(|views| views.get(index)) {
            count.fetch_sub(1, Ordering::SeqCst);
        }
        self.viewed.fetch_sub(1, Ordering::SeqCst);
        let guard = self
            .guards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        drop(guard);
    }

    fn is_viewed(&self, index: usize) -> bool {
        self.views
            .get()
            .and_then(|views| views.get(index))
            .is_some_and(|count| count.load(Ordering::SeqCst) > 0)
    }

    /// Refuses to move or release packets that are viewed. The caller holds the lock.
    pub fn check_views(&self, indices: Option<&[u32]>) -> PyResult<()> {
        if self.viewed.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let viewed = match indices {
            Some(indices) => indices
                .iter()
                .map(|&index| index as usize)
                .find(|&index| self.is_viewed(index)),
            None => (0..self.len).find(|&index| self.is_viewed(index)),
        };
        match viewed {
            Some(index) => Err(PyBufferError::new_err(format!(
                "packet {index} of this burst is being viewed; delete its memoryviews and arrays before it is sent or released"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses names of packets that have left. The caller holds the lock.
    pub fn check_held(burst: &mvmp_nf::Burst, which: &Which<'_>) -> PyResult<()> {
        burst.check_held(which).map_err(from_nf)
    }

    /// What a loop does when the next burst is asked for: releases what is neither kept nor
    /// viewed; viewed packets go home when the last view dies.
    pub fn pass(&self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        // Another thread that sends from it now will let go of it.
        let Ok(mut burst) = self.lock() else { return };
        if self.viewed.load(Ordering::SeqCst) == 0 {
            burst.release();
            return;
        }
        let free: Vec<u32> = (0..self.len as u32)
            .filter(|&index| !self.is_viewed(index as usize))
            .collect();
        burst.release_some(&Which::Indices(&free));
    }

    /// The burst of a packet that must still be lent.
    pub fn held(&self, index: usize) -> PyResult<MutexGuard<'_, mvmp_nf::Burst>> {
        let burst = self.lock()?;
        if burst.is_held(index) {
            Ok(burst)
        } else {
            Err(from_nf(NfError::NotHeld(index)))
        }
    }
}
