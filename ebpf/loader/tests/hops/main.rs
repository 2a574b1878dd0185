//! The next hop table against a real kernel's netlink: each test in a namespace of its own, changed by `ip`. No
//! program is loaded: the writes go to a model of the maps.

mod bed;
mod life;
mod links;
mod lost;
mod neighbours;
mod refresh;
mod routes;
