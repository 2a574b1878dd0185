//! Traffic that knows what it must receive: every byte of every connection is predicted from the connection's
//! key, in both directions, and every answer says which endpoint gave it.
//!
//! A few threads with one epoll each: one per endpoint, one for all TCP clients, one for all UDP clients.

pub mod counted;
pub mod endpoint;
pub mod flood;
pub mod heard;
pub mod load;
pub mod pattern;
pub mod ping;
pub mod probe;
pub mod reactor;
pub mod sctp;
pub mod stray;
pub mod talk;
pub mod tcp;
pub mod tcp_client;
pub mod tunnel;
pub mod udp;
pub mod udp_client;
