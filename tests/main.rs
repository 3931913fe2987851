//! Promises, one file each, checked on real brokers, on `kpipe local` and against scripted peers.

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
mod group_admin;
mod group_churn;
mod group_faults;
mod group_members;
mod groups;
mod interop;
mod layers;
mod links;
mod local;
mod local_agrees;
mod local_bounds;
mod local_faults;
mod monitoring;
mod old_formats;
mod outages;
mod produce_faults;
mod reassignment;
mod reference;
mod regressions;
mod repeated_requests;
mod security;
mod signals;
mod stores;
mod support;
mod tokens;
mod topic_changes;
mod topics;
mod transaction_faults;
mod transactions;
mod where_to_begin;
