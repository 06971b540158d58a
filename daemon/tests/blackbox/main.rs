//! The daemon as its users see it: the real program, driven from outside by the contract, against real servers.

#[path = "../common/mod.rs"]
mod common;
