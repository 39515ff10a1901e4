//! A liar beside honest NFs, and what must hold when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mvmp_testkit::{
    LyingHandle, LyingNf, Stage, books, frames, number, open, serve, serve_until, traffic,
};
use mvmp_wire::{Descriptor, Op};
use serde_json::Value;

const PASSES: u64 = 40;
/// Refused descriptors that end in quarantine: one more than these.
pub(crate) const REFUSED_MAX: usize = 1000;

const SHARED: &str = r#"
[platform]
buffers = 4096
alive_s = 600
[ports]
in = { pcap = "$IN", rate = "lossless", loop = $PASSES, wait_for = ["honest", "starter"] }
[devices.shared]
mode = "direct"
ports = ["in"]
[devices.virt]
mode = "rootless"
[nfs.honest]
devices = ["shared:rx"]
[nfs.listener]
devices = ["virt:rx"]
[nfs.liar]
devices = ["shared", "virt:tx"]
instances = 4
[nfs.other]
devices = ["shared:rx"]
[nfs.starter]
devices = ["virt:tx"]
"#;

/// A stage with an honest NF; the stream begins when `begin` is called.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) honest: Option<JoinHandle<u64>>,
    pub(crate) listener: Option<JoinHandle<u64>>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) starter: mvmp_nf::Nf,
    pub(crate) expected: u64,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let stage = Stage::new(&SHARED.replace("$PASSES", &PASSES.to_string()));
        let stop = Arc::new(AtomicBool::new(false));
        let (honest, shared) = stage.open("honest", "shared");
        let (listener, heard) = stage.open("listener", "virt");
        let until = Arc::clone(&stop);
        let starter = stage.nf("starter");
        Self {
            honest: Some(std::thread::spawn(move || {
                let count = serve(&shared, |_| {});
                honest.close();
                count
            })),
            listener: Some(std::thread::spawn(move || {
                let count = serve_until(&heard, &until, |_| {});
                listener.close();
                count
            })),
            stop,
            starter,
            expected: frames_in_capture() * PASSES,
            stage,
        }
    }

    pub(crate) fn liar(&self) -> LyingNf {
        LyingNf::connect(&self.stage.socket_of("liar"), "liar")
    }

    pub(crate) fn begin(&self) {
        open(&self.starter, "virt");
    }

    /// A liar with a handle, and the stream under way.
    pub(crate) fn liar_at_work(&self) -> (LyingNf, LyingHandle) {
        let liar = self.liar();
        let handle = liar.open("shared");
        self.begin();
        (liar, handle)
    }

    /// Nobody but the liar was harmed. All liars are gone by now.
    pub(crate) fn ends_well(mut self) -> Value {
        assert_eq!(
            self.honest.take().unwrap().join().unwrap(),
            self.expected,
            "the honest NF got every packet"
        );
        self.stage.await_gone("liar");
        self.stop.store(true, Ordering::Release);
        let heard = self.listener.take().unwrap().join().unwrap();
        self.starter.close();
        let stats = self.stage.settle();
        let delivered = |role, device| number(&books(&stats, role, device)["delivered"]);
        assert_eq!(delivered("honest", "shared"), self.expected);
        assert_eq!(delivered("listener", "virt"), heard);
        drop(self.liar().open("shared"));
        stats
    }
}

pub(crate) fn frames_in_capture() -> u64 {
    frames(&traffic()).len() as u64
}

pub(crate) fn releasing(lent: &Descriptor) -> Descriptor {
    Descriptor {
        op: Op::Release as u8,
        arg: 0,
        ..*lent
    }
}

pub(crate) fn all_released(lent: &[Descriptor]) -> Vec<Descriptor> {
    lent.iter().map(releasing).collect()
}

/// Writes words until it is thrown out for them, giving back what it is lent; how many were written.
pub(crate) fn lie_until_thrown_out(
    liar: &mut LyingNf,
    handle: &mut LyingHandle,
    mut lie: impl FnMut(&[Descriptor]) -> Vec<[u64; 2]>,
) -> usize {
    let mut written = 0;
    loop {
        let lent = liar.take(handle, 64);
        if lent.is_empty() {
            return written;
        }
        for words in lie(&lent) {
            liar.write(words);
            written += 1;
        }
        if !liar.present(&all_released(&lent)) {
            return written;
        }
    }
}
