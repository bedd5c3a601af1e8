//! Keeps what containers write, and their input, while the daemon comes and goes.
//!
//! ```text
//!                 wharfd                                   wharf-keeper
//!   +---------------------------------+   requests   +------------------------+
//!   | protocol::send / receive   <----+--------------+--> control thread      |
//!   |   Open + descriptors, Window,   |  SEQPACKET,  |     table of streams,  |
//!   |   Finish, ...      Grew <-------+--- JSON -----+---- stdin write ends   |
//!   |                                 |              |        |     ^         |
//!   |                                 |              |  commands  events      |
//!   |                                 |              |        v     |         |
//!   |                                 |              |     drain thread <-----+--- FIFOs <-- processes
//!   |                                 |              |        |               |
//!   |   segment::Reader, any number   |              |  segment::Writer       |
//!   +-----^---------------------------+              +--------|---------------+
//!         |               RUN.SEGMENT.data, RUN.SEGMENT.index |
//!         +----------------- files, the page cache <----------+
//! ```
//!
//! The daemon opens a process's FIFOs and hands the descriptors over; the keeper drains the outputs into
//! [`segment`] files and holds the write end of the input. Whoever wants to read does so from the files, at
//! a pace of its own: the writer knows of no reader. What the two say to each other is in [`protocol`].
//!
//! The daemon may die at any time: the keeper goes on, and a daemon that comes back asks it what it has
//! ([`protocol::Call::List`]). The keeper can be replaced in place ([`protocol::Call::Upgrade`]). If it dies,
//! what it had recorded is whole, and the next one continues behind a gap.
//!
//! This library is what both programs share. It starts no threads and has no state.

pub mod protocol;
pub mod segment;
