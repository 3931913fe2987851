//! Schemas by the IDs that records name, with all that they refer to.

use super::api::{Content, LanguageName, ReferenceName, Version, VersionChoice, content_request, version_request};
use super::client::{Client, Request};
use super::{Language, Registry, SchemaId};
use crate::error::{Error, Result};
use hyper::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use tokio::task::JoinSet;

/// So many requests are in flight at a time.
const IN_FLIGHT: usize = 16;
/// A schema may refer to so many others, directly and through them.
const MOST_REFERENCES: usize = 1000;

/// A schema with all that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub language: Language,
    pub text: String,
    /// Those that it refers to, each behind those that it refers to itself.
    pub references: Vec<Found>,
}

/// A schema that another refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How it is referred to.
    pub name: String,
    pub text: String,
}

/// What a registry knows of an ID: the schema, or why there is none that can be used.
pub type Lookup = std::result::Result<Resolved, String>;

/// What came of looking up an ID.
#[derive(Debug)]
pub struct LookedUp {
    pub id: SchemaId,
    pub lookup: Result<Lookup>,
}

impl Registry {
    /// The schemas with these IDs, several asked for at a time. What the cache on disk has is not asked for.
    ///
    /// # Errors
    /// A signal ended it. That the registry cannot be asked for an ID is in its result; that it does not have a schema, in
    /// its [`Lookup`].
    pub fn look_up(&self, ids: &[SchemaId]) -> Result<Vec<LookedUp>> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            match self.cache.as_ref().and_then(|cache| cache.get(*id)) {
                Some(resolved) => found.push(LookedUp { id: *id, lookup: Ok(Ok(resolved)) }),
                None => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let asked = self.run(self.client.look_up_all(missing))?;
        for LookedUp { id, lookup } in &asked {
            if let (Some(cache), Ok(Ok(resolved))) = (&self.cache, lookup) {
                cache.put(*id, resolved);
            }
        }
        found.extend(asked);
        Ok(found)
    }

    /// The schema with this ID.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub fn look_up_one(&self, id: SchemaId) -> Result<Lookup> {
        let found = self.look_up(&[id])?.into_iter().next();
        found.map_or(Err(Error::TaskEnded("looking up a schema")), |found| found.lookup)
    }

    /// A version of a subject with all that it refers to.
    ///
    /// # Errors
    /// As [`Registry::look_up_one`].
    pub fn resolve(&self, version: &Version) -> Result<Lookup> {
        let content = Content {
            language: version.language.clone(),
            text: version.text.clone(),
            references: version.references.clone(),
        };
        self.run(self.client.resolve(content))
    }
}

/// What `each` makes of `items`, several at a time, in their order. `what` is done with each.
async fn each_of<I, F>(items: Vec<I>, what: &'static str, each: impl Fn(I) -> F) -> Result<Vec<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (mut rest, mut running, mut done) = (items.into_iter().enumerate(), JoinSet::new(), BTreeMap::new());
    loop {
        while running.len() < IN_FLIGHT
            && let Some((index, item)) = rest.next()
        {
            let work = each(item);
            running.spawn(async move { (index, work.await) });
        }
        match running.join_next().await {
            Some(ended) => {
                let (index, output) = ended.map_err(|_| Error::TaskEnded(what))?;
                done.insert(index, output);
            }
            None => return Ok(done.into_values().collect()),
        }
    }
}

impl Client {
    async fn look_up_all(&self, ids: Vec<SchemaId>) -> Result<Vec<LookedUp>> {
        each_of(ids, "looking up a schema", |id| {
            let client = self.clone();
            async move { LookedUp { id, lookup: client.look_up(id).await } }
        })
        .await
    }

    /// Sends all `requests`, several at a time; the answers in their order.
    pub(super) async fn ask_all<T: DeserializeOwned + Send + 'static>(
        &self,
        requests: Vec<Request>,
    ) -> Result<Vec<Result<T>>> {
        each_of(requests, "asking the schema registry", |request| {
            let client = self.clone();
            async move { client.ask(&request).await }
        })
        .await
    }

    async fn look_up(&self, id: SchemaId) -> Result<Lookup> {
        let content = match id {
            SchemaId::GlueVersion(_) => {
                return Ok(Err(format!("{id} is not given (use --schema ID=FILE)")));
            }
            SchemaId::GlobalId(global) if self.has_root() => self.apicurio_content(global).await,
            SchemaId::GlobalId(_) => {
                let why = "only Apicurio Registry has global IDs, and schema.registry.url is not its …/apis/ccompat/v7";
                return Ok(Err(format!("{id}: {why}")));
            }
            id => self.ask(&content_request(id)).await,
        };
        match content {
            Ok(content) => self.resolve(content).await,
            Err(error) => match unknown(error) {
                Err(error) if self.lacks(id, &error).await => Ok(Err(error.to_string())),
                said => said.map(Err),
            },
        }
    }

    /// Whether a plain 404 comes from a registry that does not know this kind of ID, rather than from another server, which
    /// does not answer the question after types either.
    async fn lacks(&self, id: SchemaId, error: &Error) -> bool {
        let Error::Registry(refused) = error else { return false };
        matches!(id, SchemaId::GlobalId(_) | SchemaId::Guid(_))
            && refused.why.status() == Some(StatusCode::NOT_FOUND)
            && self.ask::<Vec<String>>(&Request::get("/schemas/types".to_owned(), "the types of schemas")).await.is_ok()
    }

    /// The content behind a global ID, by Apicurio's own API.
    async fn apicurio_content(&self, id: u64) -> Result<Content> {
        #[derive(Deserialize)]
        struct Reference {
            name: String,
            #[serde(rename = "artifactId")]
            artifact: String,
            version: Option<String>,
        }
        #[derive(Deserialize)]
        struct Artifacts {
            artifacts: Vec<Artifact>,
        }
        #[derive(Deserialize)]
        struct Artifact {
            #[serde(rename = "type")]
            language: LanguageName,
        }
        let about = SchemaId::GlobalId(id).to_string();
        let text = self.send(&content_request(SchemaId::GlobalId(id))).await?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| self.malformed(&about, "not UTF-8"))?;
        let path = format!("/apis/registry/v2/search/artifacts?globalId={id}");
        let found: Artifacts = self.ask(&Request::get(path, about.as_str()).absolute()).await?;
        let Some(artifact) = found.artifacts.into_iter().next() else {
            return Err(self.malformed(&about, "no artifact has it"));
        };
        let path = format!("/apis/registry/v2/ids/globalIds/{id}/references");
        let references: Vec<Reference> = self.ask(&Request::get(path, about.as_str()).absolute()).await?;
        let mut names = Vec::new();
        for Reference { name, artifact, version } in references {
            let version = version.and_then(|version| version.parse().ok());
            let Some(version) = version else {
                return Err(self.malformed(&about, format!("the reference {name} has no version that is a number")));
            };
            names.push(ReferenceName { name, subject: artifact, version });
        }
        Ok(Content { language: artifact.language, text, references: names })
    }

    async fn resolve(&self, content: Content) -> Result<Lookup> {
        let language = match content.language {
            LanguageName::Known(language) => language,
            LanguageName::Unknown(name) => return Ok(Err(format!("schemas of type {name} are not supported"))),
        };
        Ok(self.references(&content.references).await?.map(|references| Resolved {
            language,
            text: content.text,
            references,
        }))
    }

    /// All that `references` lead to, each behind those that it refers to itself.
    async fn references(&self, references: &[ReferenceName]) -> Result<std::result::Result<Vec<Found>, String>> {
        let mut walk = Walk::default();
        // A stack instead of recursion: what others have written decides how deep it goes.
        let mut open: Vec<Open> = vec![Open { content: None, left: references.iter().rev().cloned().collect() }];
        while let Some(top) = open.last_mut() {
            let Some(next) = top.left.pop() else {
                if let Some(Open { content: Some((name, version)), .. }) = open.pop() {
                    walk.ended(name, version);
                }
                continue;
            };
            match walk.begin(&next) {
                Begun::Known => continue,
                Begun::New => {}
                Begun::Impossible(why) => return Ok(Err(why)),
            }
            let request = version_request(&next.subject, VersionChoice::Number(next.version));
            let version: Version = match self.ask(&request).await {
                Ok(version) => version,
                Err(error) => return unknown(error).map(|why| Err(format!("reference {}: {why}", next.name))),
            };
            let left = version.references.iter().rev().cloned().collect();
            open.push(Open { content: Some((next, version)), left });
        }
        Ok(Ok(walk.found))
    }
}

/// A schema whose references are being looked up.
struct Open {
    content: Option<(ReferenceName, Version)>,
    left: Vec<ReferenceName>,
}

/// What has been found of references.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    /// Subject and version by name.
    names: BTreeMap<String, (String, u32)>,
    open: BTreeSet<(String, u32)>,
}

enum Begun {
    New,
    Known,
    Impossible(String),
}

impl Walk {
    fn begin(&mut self, reference: &ReferenceName) -> Begun {
        let ReferenceName { name, subject, version } = reference;
        let of = (subject.clone(), *version);
        if self.open.contains(&of) {
            return Begun::Impossible(format!("subject {subject} version {version} refers to itself, through {name}"));
        }
        match self.names.get(name) {
            Some(known) if *known == of => return Begun::Known,
            Some((other, number)) => {
                return Begun::Impossible(format!(
                    "the reference {name} is subject {subject} version {version} and also {other} version {number}"
                ));
            }
            None => {}
        }
        if self.names.len() >= MOST_REFERENCES {
            return Begun::Impossible(format!("more than {MOST_REFERENCES} references"));
        }
        self.names.insert(name.clone(), of.clone());
        self.open.insert(of);
        Begun::New
    }

    fn ended(&mut self, reference: ReferenceName, version: Version) {
        self.open.remove(&(reference.subject, reference.version));
        self.found.push(Found { name: reference.name, text: version.text });
    }
}

/// Why the registry does not have what was asked for.
///
/// # Errors
/// `error`, if that is not what it says.
fn unknown(error: Error) -> Result<String> {
    match &error {
        Error::Registry(refused) if refused.why.is_unknown() => Ok(error.to_string()),
        _ => Err(error),
    }
}
