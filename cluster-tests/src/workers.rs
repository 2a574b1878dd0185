//! Threads that work until they are told to stop: one owner of their handles and of the flag that they look at.

use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};

use crate::namespace::Handle;

/// The daemons' lease threads have 40: `node/src/lease/realtime.rs`.
const PRIORITY: libc::c_int = 30;

/// Whether a worker is to end; looked at between two pieces of work.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// It is to end.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Running threads; stopped, and waited for, when dropped.
#[derive(Debug)]
pub struct Workers<T> {
    what: &'static str,
    stop: Stop,
    threads: Vec<JoinHandle<anyhow::Result<T>>>,
}

impl<T> Workers<T> {
    /// None yet. `what` they are stands before their errors.
    pub fn new(what: &'static str) -> Self {
        Workers { what, stop: Stop::default(), threads: Vec::new() }
    }

    /// Stops them all; what each made, in the order of their start, or the first error.
    pub fn stop(mut self) -> anyhow::Result<Vec<T>> {
        self.join()
    }

    /// Gives them real-time priority, below the daemons' lease threads and above everything else: what they do then takes
    /// as long as it takes, and not as long as others leave the processors busy.
    pub fn hurry(&self) -> anyhow::Result<()> {
        let parameters = libc::sched_param { sched_priority: PRIORITY };
        for thread in &self.threads {
            // SAFETY: the handle is of a thread that was not joined, and the parameters are valid.
            let error = unsafe {
                libc::pthread_setschedparam(thread.as_pthread_t(), libc::SCHED_FIFO, &raw const parameters)
            };
            if error != 0 {
                return Err(std::io::Error::from_raw_os_error(error))
                    .with_context(|| format!("{}: cannot take real-time priority", self.what));
            }
        }
        Ok(())
    }

    /// Whether one of them has ended by itself.
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// All are waited for, whatever the first ones say.
    fn join(&mut self) -> anyhow::Result<Vec<T>> {
        self.stop.0.store(true, Ordering::Relaxed);
        let ended: Vec<_> = self
            .threads
            .drain(..)
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")).and_then(|result| result))
            .collect();
        ended.into_iter().collect::<anyhow::Result<_>>().context(self.what)
    }
}

impl<T: Send + 'static> Workers<T> {
    /// One thread more, in this process's own namespace.
    pub fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Stop) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&stop))
            .with_context(|| format!("cannot start thread {name}"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// One thread more, in `namespace`.
    pub fn spawn_in(
        &mut self,
        namespace: &Handle,
        name: &str,
        work: impl FnOnce(&Stop) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<()> {
        let namespace = namespace.clone();
        self.spawn(name, move |stop| {
            namespace.enter()?;
            work(stop)
        })
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_made_comes_in_the_order_of_their_start() {
        let mut workers = Workers::new("counters");
        for number in 0..3 {
            workers
                .spawn("counter", move |stop| {
                    while !stop.requested() {
                        std::thread::yield_now();
                    }
                    Ok(number)
                })
                .unwrap();
        }
        assert!(!workers.any_ended());
        assert_eq!(workers.stop().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn an_error_and_a_panic_are_told_by_name() {
        let mut workers = Workers::<()>::new("bad ones");
        workers.spawn("bad", |_| anyhow::bail!("no luck")).unwrap();
        assert_eq!(format!("{:#}", workers.stop().unwrap_err()), "bad ones: no luck");
        let mut workers = Workers::<()>::new("bad ones");
        workers.spawn("bad", |_| panic!("on purpose")).unwrap();
        assert_eq!(format!("{:#}", workers.stop().unwrap_err()), "bad ones: a thread panicked");
    }
}
