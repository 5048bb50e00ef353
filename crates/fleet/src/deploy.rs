//! What a deployer knows.

use serde::{Deserialize, Deserializer, Serialize};

use crate::name::{HostName, Role};
use crate::value::Extra;

/// A deploy row: what a deployer knows about one of its containers. Written by deployers only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeployRow {
    /// The role; none: the row's name.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub role: Option<Role>,
    /// The host it is, or will be, on; none: the deployer does not know yet.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub host: Option<HostName>,
    /// Docker's id of the container. Empty: a placeholder, whose container is still to come.
    #[serde(default)]
    pub container_id: String,
    /// The deployer's own word for how far it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// The stage it was deployed to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage_id: String,
    /// The tag it was deployed with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_tag: String,
    /// Where people reach it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subdomain: String,
    /// The id of its route in a proxy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proxy_route_id: String,
    /// The id of its host in Nginx Proxy Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npm_proxy_id: Option<i64>,
    /// Fields of others.
    #[serde(flatten)]
    pub extra: Extra,
}

impl DeployRow {
    /// Whether its container is still to come.
    pub fn is_placeholder(&self) -> bool {
        self.container_id.is_empty()
    }
}

/// Deployers written in languages without options say "none" with an empty string.
fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<String, Error: std::fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    let text = text.filter(|text| !text.is_empty());
    text.map(T::try_from)
        .transpose()
        .map_err(serde::de::Error::custom)
}
