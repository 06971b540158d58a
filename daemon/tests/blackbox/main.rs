//! The daemon as its users see it: the real program, driven from outside by the contract, against real servers.
//!
//! `IRISD_TEST_ONNXRUNTIME` names the runtime library; without it the classical segmenter does the work and the same tests hold.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

#[path = "../common/mod.rs"]
mod common;
#[path = "../nets/mod.rs"]
mod nets;

mod api_cameras;
mod api_doors;
mod api_events;
mod api_jobs;
mod api_lists;
mod api_photos;
mod api_tokens;
mod bad_clients;
mod bad_photos;
mod bad_requests;
mod cache;
mod checks;
mod cli;
mod clock;
mod disk;
mod ends;
mod harness;
mod idempotency;
mod journey;
mod kills;
mod losses;
mod merging;
mod models;
mod mqtt;
mod networks;
mod outage;
mod page;
mod priority;
mod process;
mod real_eyes;
mod refusals;
mod shutdown;
mod urls;
mod weights;
