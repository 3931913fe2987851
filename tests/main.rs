//! Promises, one file each, against real brokers and, where only bytes matter, against scripted peers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acls;
mod bad_input;
mod bad_peers;
mod cluster;
mod codecs;
mod configuration;
mod copies;
mod delivery;
mod docs;
mod group_churn;
mod group_faults;
mod group_members;
mod groups;
mod interop;
mod local;
mod local_agrees;
mod monitoring;
mod old_formats;
mod outages;
mod reading_faults;
mod reference;
mod security;
mod signals;
mod stores;
mod support;
mod tokens;
mod topics;
mod transactions;
mod where_to_begin;
