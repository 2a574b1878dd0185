//! The way to the writer: the driver's own side of it.

use std::sync::mpsc as blocking;

use lockstep_model::flow::FlowOp;
use lockstep_sync_core::WorkId;

use super::super::table::Unmentioned;
use super::{Batch, Job, TOGETHER, Written};

/// Up to so many flows the driver writes itself: to wake the thread for them, and to be woken by it, takes longer.
const HERE: usize = 128;

type Write = Box<dyn Fn(Batch) -> Vec<Written> + Send>;

/// What is to be written, in the order it was learnt.
pub(in crate::sync) struct Line {
    jobs: blocking::Sender<Job>,
    here: Write,
    /// What comes in one turn goes together.
    batch: Batch,
    /// Works that are with the thread.
    away: usize,
}

impl Line {
    pub(super) fn new(jobs: blocking::Sender<Job>, here: Write) -> Self {
        Self { jobs, here, batch: Batch::default(), away: 0 }
    }

    /// To be written by the next [`Self::write`].
    pub(in crate::sync) fn push(&mut self, work: WorkId, mut ops: Vec<FlowOp>) {
        // No more at once than a takeover can wait for.
        if self.batch.ops.len() + ops.len() > TOGETHER {
            self.send();
        }
        self.batch.works.push((work, ops.len()));
        self.batch.ops.append(&mut ops);
    }

    pub(in crate::sync) fn sweep(&mut self, work: WorkId, of: Unmentioned) {
        self.send();
        self.away += 1;
        self.job(Job::Sweep { work, of });
    }

    /// Writes what was pushed, or has the thread write it if that has something to do: nothing overtakes. What is written.
    pub(in crate::sync) fn write(&mut self) -> Vec<Written> {
        if self.batch.works.is_empty() {
            return Vec::new();
        }
        if self.away == 0 && self.batch.ops.len() <= HERE {
            return (self.here)(std::mem::take(&mut self.batch));
        }
        self.send();
        Vec::new()
    }

    /// The thread has done a work.
    pub(in crate::sync) fn returned(&mut self) {
        self.away -= 1;
    }

    fn send(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.works.is_empty() {
            self.away += batch.works.len();
            self.job(Job::Write(batch));
        }
    }

    fn job(&self, job: Job) {
        self.jobs.send(job).expect("the writer ends after this thread");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use lockstep_model::flow::{FlowChange, FlowKey, FlowVersion, WriteOutcome};
    use lockstep_model::ids::{Epoch, GroupId};
    use lockstep_model::protocol::Protocol;

    use super::*;

    fn op(port: u16) -> FlowOp {
        let key = FlowKey {
            client: ([10, 0, 0, 1], port).into(),
            service: ([192, 0, 2, 10], 443).into(),
            protocol: Protocol::Tcp,
        };
        let change = FlowChange::Remove { key, group: GroupId(7), version: FlowVersion::default() };
        FlowOp { change, epoch: Epoch(1), mark: 0, only_if_absent: false, repair: false }
    }

    fn ports(batch: &Batch) -> Vec<u16> {
        batch.ops.iter().map(|op| op.change.key().client.port()).collect()
    }

    /// A line, what it wrote itself, and what the thread got.
    fn line() -> (Line, Arc<Mutex<Vec<u16>>>, blocking::Receiver<Job>) {
        let (jobs, queue) = blocking::channel();
        let here = Arc::new(Mutex::new(Vec::new()));
        let write = {
            let here = here.clone();
            Box::new(move |batch: Batch| {
                here.lock().unwrap().extend(ports(&batch));
                let outcomes = vec![WriteOutcome::Applied; batch.ops.len()];
                vec![Written { work: batch.works[0].0, ops: batch.ops, outcomes }]
            })
        };
        (Line::new(jobs, write), here, queue)
    }

    #[test]
    fn i6_what_is_written_at_once_is_no_more_than_a_takeover_can_wait_for() {
        let (mut line, here, thread) = line();
        (1..=5).for_each(|work| line.push(WorkId(work), (0..200).map(op).collect()));
        assert!(line.write().is_empty());
        let mut jobs = Vec::new();
        while let Ok(Job::Write(batch)) = thread.try_recv() {
            jobs.push(batch.ops.len());
        }
        assert_eq!(jobs.iter().sum::<usize>(), 1000, "{jobs:?}");
        assert!(jobs.iter().all(|ops| *ops <= TOGETHER), "{jobs:?}");
        assert!(here.lock().unwrap().is_empty());
    }

    #[test]
    fn i5_nothing_overtakes_what_the_thread_has_to_write() {
        let (mut line, here, thread) = line();
        line.push(WorkId(1), vec![op(1), op(2)]);
        assert_eq!(line.write().len(), 1);
        assert_eq!(*here.lock().unwrap(), [1, 2], "a few are written at once");

        line.push(WorkId(2), (0..HERE as u16 + 1).map(op).collect());
        assert!(line.write().is_empty());
        assert!(matches!(thread.try_recv(), Ok(Job::Write(batch)) if batch.ops.len() == HERE + 1));
        line.push(WorkId(3), vec![op(3)]);
        assert!(line.write().is_empty());
        line.push(WorkId(4), vec![op(4)]);
        let of = Unmentioned { group: GroupId(7), shard: 0, mark: 1, epoch: Epoch(1) };
        line.sweep(WorkId(5), of);
        let mut order = Vec::new();
        while let Ok(job) = thread.try_recv() {
            order.push(match job {
                Job::Write(batch) => batch.works.iter().map(|(work, _)| work.0).collect(),
                Job::Sweep { work, .. } => vec![work.0],
            });
        }
        assert_eq!(order, [vec![3], vec![4], vec![5]]);
        (2..=5).for_each(|_| line.returned());
        line.push(WorkId(6), vec![op(6)]);
        assert_eq!(line.write().len(), 1);
        assert_eq!(*here.lock().unwrap(), [1, 2, 6]);
    }
}
