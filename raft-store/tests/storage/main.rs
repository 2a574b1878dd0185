//! The store alone: openraft's suite, crashes, damage.

mod again;
mod common;
mod crash;
mod damage;
mod dump;
mod suite;
