//! Objects that a user wrote, or had written, against what is in the cluster: applied, compared or deleted.

use std::collections::HashMap;

use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::discovery::{Scope, pinned_kind};

pub use self::error::PutError;
pub use self::given::{GivenObject, NoObject};
use super::apply::FIELD_MANAGER;
use super::client::{Cluster, Connection};
use super::compare::{change, shown};
use super::errors::{RequestError, ask};
use crate::backend::ApplyError;
use crate::builder::KubeContext;

mod error;
mod given;

/// What to do with objects, and where.
#[derive(Debug)]
pub struct PutObjects {
    pub context: KubeContext,
    /// For objects that name none. Without it, that of the context.
    pub namespace: Option<String>,
    /// The URL of this pod's cluster, when this is a pod that knows it.
    pub api_server: Option<String>,
    pub objects: Vec<GivenObject>,
    pub action: PutAction,
    /// Take fields over that somebody else has set.
    pub force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutAction {
    Apply,
    /// The API server tries it without keeping it.
    Diff,
    Delete,
}

/// What became of one object.
#[derive(Debug)]
pub struct Put {
    /// As in `deployment buildkitd`.
    pub object: String,
    /// Empty for one that is in none.
    pub namespace: String,
    pub outcome: Result<PutOutcome, PutError>,
    /// From what was there to what is asked for; without what is in secrets.
    pub diff: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    Created,
    Changed,
    Unchanged,
    Deleted,
    /// There was nothing to delete.
    Absent,
}

impl PutObjects {
    /// One after the other in their order, deletes in the reverse one; the answers are in the order of the objects. One that
    /// fails does not keep the others, unless the API server is silent.
    ///
    /// # Errors
    /// When there is no connection to the cluster.
    pub async fn run(self) -> Result<Vec<Put>, ApplyError> {
        let cluster = Cluster::new(self.context, self.namespace, self.api_server);
        let mut asking = Asking {
            connection: cluster.connection().await?,
            action: self.action,
            force: self.force,
            kinds: HashMap::new(),
        };
        let reverse = self.action == PutAction::Delete;
        let ordered: Box<dyn Iterator<Item = &GivenObject> + Send> =
            if reverse { Box::new(self.objects.iter().rev()) } else { Box::new(self.objects.iter()) };
        let (mut puts, mut silent) = (Vec::new(), false);
        for object in ordered {
            let put = if silent { asking.not_asked(object) } else { asking.put(object).await };
            silent = silent || matches!(put.outcome, Err(PutError::Unreachable { .. }));
            puts.push(put);
        }
        if reverse {
            puts.reverse();
        }
        Ok(puts)
    }
}

/// A kind of object as the cluster serves it.
#[derive(Debug, Clone)]
struct Served {
    resource: ApiResource,
    namespaced: bool,
}

struct Asking {
    connection: Connection,
    action: PutAction,
    force: bool,
    kinds: HashMap<GroupVersionKind, Served>,
}

impl Asking {
    async fn put(&mut self, object: &GivenObject) -> Put {
        match self.served(object).await {
            Ok(served) => {
                let namespace = self.namespace(object, &served);
                let mut diff = String::new();
                let outcome = self.act(object, &served, &namespace, &mut diff).await;
                Put { object: object.called(), namespace, outcome, diff }
            }
            Err(error) => Put { outcome: Err(error), ..self.not_asked(object) },
        }
    }

    fn not_asked(&self, object: &GivenObject) -> Put {
        Put {
            object: object.called(),
            namespace: object.namespace().unwrap_or(&self.connection.namespace).to_owned(),
            outcome: Err(PutError::NotAsked { server: self.connection.server.to_string() }),
            diff: String::new(),
        }
    }

    fn namespace(&self, object: &GivenObject, served: &Served) -> String {
        match served.namespaced {
            true => object.namespace().unwrap_or(&self.connection.namespace).to_owned(),
            false => String::new(),
        }
    }

    async fn served(&mut self, object: &GivenObject) -> Result<Served, PutError> {
        let kind = object.kind();
        if let Some(served) = self.kinds.get(kind) {
            return Ok(served.clone());
        }
        let unknown = || PutError::UnknownKind { kind: kind.kind.clone(), api_version: kind.api_version() };
        let asked = async {
            match pinned_kind(&self.connection.client, kind).await {
                Err(kube::Error::Discovery(_)) => Ok(None),
                found => found.map(Some),
            }
        };
        let found = match ask(asked).await {
            Err(error) if error.is_not_found() => return Err(unknown()),
            found => found.map_err(|error| self.failed("look up", object, &kind.kind, "", error))?,
        };
        let (resource, capabilities) = found.ok_or_else(unknown)?;
        let served = Served { resource, namespaced: capabilities.scope == Scope::Namespaced };
        self.kinds.insert(kind.clone(), served.clone());
        Ok(served)
    }

    async fn act(
        &self,
        object: &GivenObject,
        served: &Served,
        namespace: &str,
        diff: &mut String,
    ) -> Result<PutOutcome, PutError> {
        let client = self.connection.client.clone();
        let api: Api<DynamicObject> = match served.namespaced {
            true => Api::namespaced_with(client, namespace, &served.resource),
            false => Api::all_with(client, &served.resource),
        };
        let name = object.name();
        let failed = |verb| {
            let plural = &served.resource.plural;
            move |error: RequestError| self.failed(verb, object, plural, namespace, error)
        };
        if self.action == PutAction::Delete {
            return match ask(api.delete(name, &DeleteParams::background())).await {
                Err(error) if error.is_not_found() => Ok(PutOutcome::Absent),
                deleted => deleted.map(|_| PutOutcome::Deleted).map_err(failed("delete")),
            };
        }
        let before = ask(api.get_opt(name)).await.map_err(failed("get"))?;
        let after =
            ask(api.patch(name, &self.params(), &Patch::Apply(object.json()))).await.map_err(failed("patch"))?;
        let exists = before.is_some();
        let changed = change(object.called(), before.map(|before| shown(&before)), Some(shown(&after)));
        let outcome = match (exists, &changed) {
            (false, _) => PutOutcome::Created,
            (true, Some(_)) => PutOutcome::Changed,
            (true, None) => PutOutcome::Unchanged,
        };
        *diff = changed.map(|change| change.diff).unwrap_or_default();
        Ok(outcome)
    }

    fn params(&self) -> PatchParams {
        PatchParams { dry_run: self.action == PutAction::Diff, force: self.force, ..PatchParams::apply(FIELD_MANAGER) }
    }

    fn failed(
        &self,
        verb: &'static str,
        object: &GivenObject,
        resource: &str,
        namespace: &str,
        error: RequestError,
    ) -> PutError {
        error::of_request(verb, object, resource, namespace, &self.connection.server, error)
    }
}
