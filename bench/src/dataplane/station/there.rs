//! SYNs on flows that are there.

use anyhow::{Context, ensure};
use lockstep_cluster_tests::interrupt;

use super::{SIZES, Station};
use crate::lockstep::Family;
use crate::packet::{ACK, FIN, Flows, SYN};
use crate::plan::DESTINATION;

impl Station<'_> {
    /// SYNs on flows that are there: established, and then closed by both sides, each of which begins another connection.
    /// Beside the SYN that makes a flow.
    pub(super) fn flows_there(&mut self, count: u32) -> anyhow::Result<()> {
        let (alive, closed) = (self.rows("syn/alive", count), self.rows("syn/closed", count));
        // A single flow that is reopened once says nothing.
        let closed = if count == 1 { Vec::new() } else { closed };
        if alive.is_empty() && closed.is_empty() {
            return Ok(());
        }
        let flows = self.flows(count);
        let in_order = Flows { scattered: false, ..flows };
        let answers = Flows { varied: DESTINATION, ..in_order };
        for _ in 0..self.effort.rounds_of_new {
            interrupt::check()?;
            for (name, size) in &alive {
                self.establish(count).context("flows cannot be established")?;
                let frame = self.frame(SYN, *size);
                let empty =
                    self.wrapped(self.instruments.empty(self.hook)?, &flows, &frame, self.nothing())?;
                let ns = self.wrapped(self.subject.program(), &flows, &frame, self.sent())?;
                self.figures.cost(name, ns - empty, &[&self.floor_name(Family::V4)]);
            }
            for (name, size) in &closed {
                self.establish(count).context("flows cannot be established")?;
                let frame = self.frame(SYN, *size);
                let empty =
                    self.wrapped(self.instruments.empty(self.hook)?, &flows, &frame, self.nothing())?;
                self.make(&in_order, &self.frame(FIN | ACK, SIZES[0].1), true).context("the client's FIN")?;
                self.make(&answers, &self.answer(FIN | ACK), true).context("the endpoint's FIN")?;
                let before = self.subject.created()?;
                let ns = self.make(&flows, &frame, true)? / f64::from(count);
                let created = self.subject.created()? - before;
                ensure!(created == u64::from(count), "{count} SYNs on closed flows made {created}");
                self.figures.cost(name, ns - empty, &[&self.floor_name(Family::V4)]);
            }
        }
        self.subject.forget_flows()
    }
}
