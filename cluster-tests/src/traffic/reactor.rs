//! One epoll and one timer: the loop under every traffic thread.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

const TIMER: u64 = u64::MAX;
const BATCH: usize = 256;

/// What a turn of the loop brought.
pub struct Turn {
    events: [EpollEvent; BATCH],
    count: usize,
}

impl Turn {
    /// The tokens of sockets that became ready.
    pub fn tokens(&self) -> impl Iterator<Item = usize> + '_ {
        self.events[..self.count].iter().map(|e| e.data()).filter(|t| *t != TIMER).map(|t| t as usize)
    }
}

/// Epoll, edge-triggered, with a periodic timer.
pub struct Reactor {
    epoll: Epoll,
    timer: TimerFd,
}

impl Reactor {
    /// A loop that wakes at least every `tick`.
    pub fn new(tick: Duration) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
                .context("timerfd")?;
        timer
            .set(Expiration::Interval(TimeSpec::from_duration(tick)), TimerSetTimeFlags::empty())
            .context("timerfd")?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER)).context("epoll")?;
        Ok(Reactor { epoll, timer })
    }

    /// Watches a socket in both directions until it is closed.
    pub fn watch(&self, socket: impl AsFd, token: usize) -> anyhow::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(socket, EpollEvent::new(flags, token as u64)).context("epoll")
    }

    /// Watches a socket for what it can be read, level-triggered.
    pub fn watch_input(&self, socket: impl AsFd, token: usize) -> anyhow::Result<()> {
        self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token as u64)).context("epoll")
    }

    /// Waits for the next event or tick.
    pub fn turn(&self) -> anyhow::Result<Turn> {
        let mut turn = Turn { events: [EpollEvent::empty(); BATCH], count: 0 };
        turn.count = match self.epoll.wait(&mut turn.events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll"),
        };
        if turn.events[..turn.count].iter().any(|e| e.data() == TIMER) {
            match self.timer.wait() {
                Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error).context("timerfd"),
            }
        }
        Ok(turn)
    }
}
