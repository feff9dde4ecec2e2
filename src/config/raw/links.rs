//! `identity.links[]`: the sources of links whose keys are names of providers, or nothing at all.

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::config::problem::Report;
use crate::config::raw::NormaliseWord;
use crate::config::shape::At;
use crate::config::shape::Entries;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::config::shape::Placed;
use crate::config::shape::Shape;
use crate::config::shape::object;
use crate::config::shape::property;
use crate::config::tree::Content;
use crate::config::tree::Mark;
use crate::config::tree::Node;

/// The keys beside the names of providers.
const KEYS: [&str; 2] = ["normalise", "require"];
const ABOUT: &str = "Accounts of two providers of which the same is said: `PROVIDER: ATTRIBUTE` twice, and how they are compared. \
    A link is made of one account on each side, once and for all; from the second account of a provider on that has a value, it \
    links nobody. One of the two accounts must have a canonical name: the other gets it.";
const NORMALISE: &str = "What is done to each value first; addresses are trimmed and their letters made small in any case. Default: nothing.";
const REQUIRE: &str = "What a value must be. Required. `unique` always; an e-mail address (`email`) also `PROVIDER_email_verified` of at least one \
    provider, the other being authoritative for its domain, and `domain:DOMAIN` for each domain whose addresses are ours to give. An \
    address counts for an account so long as it was seen with it within the last 30 days.";

/// A source of links: what two providers say alike.
#[derive(Debug)]
pub(crate) struct RawLinkClaim {
    /// Where the mapping stands.
    pub(crate) mark: Mark,
    /// Who says it, about which attribute.
    pub(crate) speakers: Vec<(At<String>, Option<At<String>>)>,
    /// What is done to each value first.
    pub(crate) normalise: Field<List<At<NormaliseWord>>>,
    /// What a value must be.
    pub(crate) require: Field<List<At<String>>>,
}

impl Placed for RawLinkClaim {
    fn mark(&self) -> Mark {
        self.mark
    }
}

impl Shape for RawLinkClaim {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let entries = Entries::open(node, report)?;
        Some(Self {
            mark: node.mark,
            speakers: entries.others(&KEYS, report),
            normalise: entries.field("normalise", report),
            require: entries.field("require", report),
        })
    }
}

impl JsonSchema for RawLinkClaim {
    fn schema_name() -> Cow<'static, str> {
        "LinkClaim".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let properties = [
            (
                "normalise",
                property::<List<At<NormaliseWord>>>(generator, &[NORMALISE]),
            ),
            (
                "require",
                property::<List<At<String>>>(generator, &[REQUIRE]),
            ),
        ];
        let mut schema = object(&[ABOUT], false, properties);
        let attribute = generator.subschema_for::<String>();
        schema.insert("additionalProperties".into(), attribute.to_value());
        schema
    }
}

/// Something that is there or not, and has no settings: `true`, `false`, or `{}`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Given(pub(crate) bool);

impl Shape for Given {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.content {
            Content::Map(_) => {
                let entries = Entries::of(node, report, &[], &[])?;
                entries.is_empty().then_some(Self(true))
            }
            Content::Scalar(_) | Content::List(_) | Content::Null => {
                bool::read(node, report).map(Self)
            }
        }
    }
}

impl JsonSchema for Given {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Given".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "object", "maxProperties": 0 }] })
    }
}
