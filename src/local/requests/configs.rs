//! DescribeConfigs and IncrementalAlterConfigs.

use super::call::{Call, distinct, text};
use crate::local::cluster::UNKNOWN_TOPIC;
use crate::local::configs::{CONFIGS, Kind};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// DescribeConfigs' sources: set for the topic, or the default.
pub(in crate::local) fn source(set: bool) -> i8 {
    if set { 1 } else { 5 }
}

pub(in crate::local) fn describe_configs(call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
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
        if let Some(error) = call.refusal {
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
