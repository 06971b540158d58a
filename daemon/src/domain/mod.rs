//! Pure values: what the appliance talks about. No I/O, no clock, no tokio; everybody may import this room, it imports nobody.

pub mod event;
pub mod fault;
pub mod ids;
pub mod job;
pub mod photo;
pub mod quality;
pub mod report;
pub mod stage;
pub mod time;
pub mod transition;
