//! Two threads that wait so that the lease thread need not: one applies what is queued before a lease opens,
//! one waits for grace periods after a lease is closed. Nobody is served meanwhile, so they have the lease thread's
//! priority; both only wait.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use lockstep_model::limits::MAX_LEASE;
use lockstep_ownership::message::Tenure;

use super::handle::{Handle, Input};
use super::realtime;
use super::sink::LeaseSink;

/// How long an opening lease waits for what is queued to be applied (DESIGN section 8).
pub(super) const PREPARE: Duration = Duration::from_millis(5);

/// Work for the helpers. They end when this is dropped.
pub(super) struct Helpers {
    opening: Sender<Tenure>,
    closed: Sender<Tenure>,
}

impl Helpers {
    pub(super) fn start(sink: &Arc<dyn LeaseSink>, handle: &Handle) -> io::Result<Self> {
        let (opening, to_prepare) = channel();
        let (closed, to_wait) = channel();
        let (preparing, waiting) = ((sink.clone(), handle.clone()), (sink.clone(), handle.clone()));
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        named("lease-prepare").spawn(move || {
            realtime::acquire_priority();
            prepare(&to_prepare, &*preparing.0, &preparing.1);
        })?;
        named("lease-grace").spawn(move || {
            realtime::acquire_priority();
            wait_grace(&to_wait, &*waiting.0, &waiting.1);
        })?;
        Ok(Self { opening, closed })
    }

    pub(super) fn prepare(&self, tenure: Tenure) {
        self.opening.send(tenure).expect("the helper ends only after this sender");
    }

    pub(super) fn wait_grace_period(&self, tenure: Tenure) {
        self.closed.send(tenure).expect("the helper ends only after this sender");
    }
}

fn prepare(jobs: &Receiver<Tenure>, sink: &dyn LeaseSink, handle: &Handle) {
    while let Ok(first) = jobs.recv() {
        // Groups that open together are prepared together: each waits once.
        let tenures: Vec<Tenure> = std::iter::once(first).chain(jobs.try_iter()).collect();
        sink.before_open(&tenures, PREPARE);
        handle.tell(Input::Prepared(tenures));
    }
}

fn wait_grace(jobs: &Receiver<Tenure>, sink: &dyn LeaseSink, handle: &Handle) {
    while let Ok(first) = jobs.recv() {
        let tenures: Vec<Tenure> = std::iter::once(first).chain(jobs.try_iter()).collect();
        let waited = sink.wait_grace_period();
        if waited.is_err() {
            // Not known to be safe: hold the promises until they have ended anyway.
            std::thread::sleep(MAX_LEASE);
        }
        for tenure in tenures {
            handle.tell(if waited.is_ok() { Input::GraceOver(tenure) } else { Input::GraceFailed(tenure) });
        }
    }
}
