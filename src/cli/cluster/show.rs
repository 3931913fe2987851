//! `kpipe cluster brokers`, `features`, `apis`, `quorum` and `log-dirs`.

use crate::cli::Context;
use crate::cli::listing::{bytes, or_dash, print, print_lines, report_incomplete, right_align, say, table};
use crate::engine::{Listing, Partition};
use crate::error::{Error, Result};
use crate::record::BrokerId;
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn brokers(context: &Context, json: bool) -> Result<u8> {
    let admin = context.admin("cluster brokers")?;
    let (found, controller) = (admin.brokers()?, admin.controller()?);
    let Listing { found: topics, incomplete } = admin.topics(None)?;
    let count = |of: &dyn Fn(&Partition) -> bool| topics.iter().flat_map(|t| &t.partitions).filter(|p| of(p)).count();
    let has = |ids: &Option<Vec<BrokerId>>, id: BrokerId| ids.iter().flatten().any(|other| *other == id);
    let mut rows = Vec::new();
    for broker in &found.brokers {
        let id = broker.id;
        let leads = count(&|p| p.leader == Some(id));
        let replicas = count(&|p| has(&p.replicas, id));
        let missing = count(&|p| has(&p.replicas, id) && !has(&p.in_sync_replicas, id));
        rows.push((broker, leads, replicas, missing));
    }
    if json {
        print_lines(rows.into_iter().map(|(broker, leads, replicas, missing)| {
            let mut line = json!(broker);
            line["cluster"] = json!(found.cluster);
            line["cluster_controller"] = json!(controller);
            line["controller"] = json!(controller == Some(broker.id));
            line["leads"] = json!(leads);
            line["replicas"] = json!(replicas);
            line["out_of_sync"] = json!(missing);
            line
        }))?;
        return Ok(report_incomplete(&incomplete));
    }
    if let Some(cluster) = &found.cluster {
        let controller = controller.map(|id| format!(", controller {id}")).unwrap_or_default();
        say(context, &format!("cluster {cluster}{controller}"));
    }
    let mut table = table(&["BROKER", "ADDRESS", "RACK", "STATE", "LEADS", "REPLICAS", "OUT OF SYNC"]);
    for (broker, leads, replicas, missing) in rows {
        let state = match (broker.fenced, controller == Some(broker.id)) {
            (true, _) => "fenced",
            (false, true) => "controller",
            (false, false) => "up",
        };
        table.add_row([
            broker.id.to_string(),
            format!("{}:{}", broker.host, broker.port),
            or_dash(broker.rack.as_ref()),
            state.to_owned(),
            leads.to_string(),
            replicas.to_string(),
            missing.to_string(),
        ]);
    }
    right_align(&mut table, [0, 4, 5, 6]);
    print(&table.to_string())?;
    Ok(report_incomplete(&incomplete))
}

pub(super) fn features(context: &Context, json: bool) -> Result<()> {
    let features = context.admin("cluster features")?.features()?;
    if json {
        return print_lines(features.iter().map(|feature| json!(feature)));
    }
    let mut table = table(&["FEATURE", "LEVEL", "SUPPORTED"]);
    for feature in features {
        let (min, max) = feature.supported;
        table.add_row([feature.feature, or_dash(feature.finalized), format!("{min} to {max}")]);
    }
    right_align(&mut table, [1]);
    print(&table.to_string())
}

pub(super) fn apis(context: &Context, broker: Option<BrokerId>, json: bool) -> Result<()> {
    let admin = context.admin("cluster apis")?;
    let broker = match broker {
        Some(id) => id,
        None => {
            let up = admin.alive()?;
            *up.first().ok_or_else(|| Error::ClusterState("no broker is alive".to_owned()))?
        }
    };
    let apis = admin.apis(broker)?;
    if json {
        return print_lines(apis.iter().map(|api| json!(api)));
    }
    let mut table = table(&["KEY", "API", "BROKER", "KPIPE"]);
    let range = |(min, max): (i16, i16)| format!("{min} to {max}");
    for api in apis {
        table.add_row([api.key.to_string(), or_dash(api.api), range(api.broker), or_dash(api.kpipe.map(range))]);
    }
    right_align(&mut table, [0]);
    print(&table.to_string())
}

pub(super) fn quorum(context: &Context, json: bool) -> Result<()> {
    let quorum = context.admin("cluster quorum")?.quorum()?;
    let quorum =
        quorum.ok_or_else(|| Error::ClusterState("the cluster uses ZooKeeper and has no KRaft quorum".to_owned()))?;
    if json {
        return print_lines(quorum.replicas.iter().map(|replica| {
            let mut line = json!(replica);
            line["epoch"] = json!(quorum.epoch);
            line["high_watermark"] = json!(quorum.high_watermark);
            line
        }));
    }
    say(context, &format!("epoch {}, high watermark {}", quorum.epoch, quorum.high_watermark));
    let mut table = table(&["NODE", "ROLE", "LOG END", "LAG", "BEHIND"]);
    for replica in &quorum.replicas {
        table.add_row([
            replica.node.to_string(),
            replica.role.to_string(),
            replica.log_end_offset.to_string(),
            replica.lag.to_string(),
            or_dash(replica.behind_ms.map(|ms| format!("{ms} ms"))),
        ]);
    }
    right_align(&mut table, [0, 2, 3, 4]);
    print(&table.to_string())
}

pub(super) fn log_dirs(context: &Context, brokers: &[BrokerId], json: bool) -> Result<u8> {
    let admin = context.admin("cluster log-dirs")?;
    let brokers = if brokers.is_empty() { admin.alive()? } else { brokers.to_vec() };
    let Listing { found: dirs, incomplete } =
        Listing::of_all(brokers.into_iter().map(|broker| admin.log_dirs(&[broker])))?;
    if json {
        print_lines(dirs.iter().map(|dir| {
            let mut topics: BTreeMap<&str, i64> = BTreeMap::new();
            for (of, size) in &dir.partitions {
                *topics.entry(&of.topic).or_default() += size;
            }
            json!({
                "broker": dir.broker, "path": dir.path, "error": dir.error, "total_bytes": dir.total,
                "usable_bytes": dir.usable, "partitions": dir.partitions.len(),
                "bytes": dir.partitions.values().sum::<i64>(), "bytes_by_topic": topics,
            })
        }))?;
        return Ok(report_incomplete(&incomplete));
    }
    let mut table = table(&["BROKER", "DIRECTORY", "PARTITIONS", "SIZE", "USABLE", "TOTAL", "ERROR"]);
    for dir in dirs {
        table.add_row([
            dir.broker.to_string(),
            dir.path,
            dir.partitions.len().to_string(),
            bytes(dir.partitions.values().sum()),
            or_dash(dir.usable.map(bytes)),
            or_dash(dir.total.map(bytes)),
            or_dash(dir.error),
        ]);
    }
    right_align(&mut table, [0, 2, 3, 4, 5]);
    print(&table.to_string())?;
    Ok(report_incomplete(&incomplete))
}
