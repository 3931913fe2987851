//! DescribeConfigs and IncrementalAlterConfigs.

use super::call::{Call, distinct, text};
use crate::engine::Operation;
use crate::local::cluster::{Cluster, UNKNOWN_TOPIC};
use crate::local::configs::{CONFIGS, Kind, Refused};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// Resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// DescribeConfigs' sources: set for the topic, or the default.
pub(in crate::local) fn source(set: bool) -> i8 {
    if set { 1 } else { 5 }
}

pub(in crate::local) fn describe_configs(call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let cluster = call.cluster();
    let describe = |resource: DescribeConfigsResource| {
        let answer = DescribeConfigsResult::default()
            .with_error_message(None)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let wanted = |name: &str| {
            resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
        };
        let fail =
            |error: E, why: &str| answer.clone().with_error_code(error.code()).with_error_message(Some(text(why)));
        let shown = |(name, default, kind): &(&'static str, &'static str, Kind), set: Option<&String>| {
            let value = text(set.map_or(*default, String::as_str));
            let synonym = DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(value.clone()))
                .with_source(source(set.is_some()));
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(value))
                .with_config_source(source(set.is_some()))
                .with_synonyms(if request.include_synonyms { vec![synonym] } else { Vec::new() })
                .with_config_type(*kind as i8)
                .with_documentation(None)
        };
        let may_describe = match resource.resource_type {
            TOPIC => call.check_topic(Operation::DescribeConfigs, &resource.resource_name),
            _ => call.check_cluster(Operation::DescribeConfigs),
        };
        if let Err(error) = may_describe {
            return fail(error, "");
        }
        match resource.resource_type {
            TOPIC => match cluster.topic(&resource.resource_name, Uuid::nil()) {
                Ok((_, topic)) => {
                    let known = CONFIGS.iter().filter(|(name, ..)| wanted(name));
                    let configs = known.map(|config| shown(config, topic.configs.get(config.0)));
                    answer.clone().with_configs(configs.collect())
                }
                Err(error) => fail(error, UNKNOWN_TOPIC),
            },
            // A broker has no settings.
            BROKER => answer,
            _ => fail(E::InvalidRequest, "kpipe local describes topics and brokers only"),
        }
    };
    DescribeConfigsResponse::default().with_results(
        distinct(request.resources, |r| (r.resource_type, r.resource_name.clone())).map(describe).collect(),
    )
}

/// What is done to a config (KIP-339).
mod operation {
    pub(super) const SET: i8 = 0;
    pub(super) const DELETE: i8 = 1;
    pub(super) const APPEND: i8 = 2;
    pub(super) const SUBTRACT: i8 = 3;
}

pub(in crate::local) fn incremental_alter_configs(
    call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut cluster = call.cluster();
    let responses = request.resources.into_iter().map(|resource| {
        let may_alter = match resource.resource_type {
            TOPIC => call.check_topic(Operation::AlterConfigs, &resource.resource_name),
            _ => call.check_cluster(Operation::AlterConfigs),
        };
        let altered = match may_alter {
            Err(error) => Err((error, String::new())),
            Ok(()) => alter(&mut cluster, &resource, request.validate_only),
        };
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match altered {
            Ok(()) => answer.with_error_message(None),
            Err((error, why)) => {
                let why = (error != E::UnknownServerError).then(|| text(why));
                answer.with_error_code(error.code()).with_error_message(why)
            }
        }
    });
    let responses = responses.collect();
    drop(cluster);
    call.shared.deadlines.notify_one(); // retention may begin
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn alter(cluster: &mut Cluster, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refused> {
    let invalid = |why: String| Err((E::InvalidRequest, why));
    if resource.resource_type != TOPIC {
        return invalid("kpipe local has configs of topics only".to_owned());
    }
    let (_, topic) = cluster.topic(&resource.resource_name, Uuid::nil()).map_err(|e| (e, UNKNOWN_TOPIC.to_owned()))?;
    let mut configs = topic.configs.clone();
    if distinct(&resource.configs, |config| config.name.clone()).count() < resource.configs.len() {
        return invalid("Error due to duplicate config keys".to_owned());
    }
    for config in &resource.configs {
        let name = config.name.as_str();
        let Some((_, default, kind)) = CONFIGS.iter().find(|(known, ..)| *known == name) else {
            return Err((E::InvalidConfig, format!("Unknown topic config name: {name}")));
        };
        if config.config_operation == operation::DELETE {
            configs.remove(name);
            continue;
        }
        let Some(value) = &config.value else {
            return invalid(format!("Null value not supported for : {name}"));
        };
        let value = match config.config_operation {
            operation::SET => value.to_string(),
            operation::APPEND | operation::SUBTRACT if *kind != Kind::List => {
                let what = if config.config_operation == operation::APPEND { "append" } else { "subtract" };
                let why = format!("Can't {what} to key {name} because its type is not LIST.");
                return Err((E::InvalidConfig, why));
            }
            operation @ (operation::APPEND | operation::SUBTRACT) => {
                let current = configs.get(name).map_or(*default, String::as_str);
                let changed: Vec<&str> = value.split(',').collect();
                let mut list: Vec<&str> = current.split(',').filter(|item| !item.is_empty()).collect();
                list.retain(|item| !changed.contains(item));
                if operation == operation::APPEND {
                    list.extend(changed);
                }
                list.join(",")
            }
            // Kafka answers so, and without a message.
            _ => return Err((E::UnknownServerError, String::new())),
        };
        configs.insert(name.to_owned(), value);
    }
    cluster.set_configs(&resource.resource_name, configs, validate_only)
}
