//! What a build is to ask for, in which order, and what the pod is to do for it.

use std::collections::HashMap;
use std::time::Duration;

use buildfleet_proto::buildkit::{Exporter, SolveRequest, frontend};

use super::offer::Offer;

/// The parts of a build that arrive in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Session,
    Solve,
    Status,
    Bridge,
}

use Part::{Bridge, Session, Solve, Status};

/// A build, before it has begun.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) r#ref: String,
    /// `None` when no session is ever opened.
    pub(crate) offer: Option<Offer>,
    /// The id that the build names for its session.
    pub(crate) session: String,
    /// What goes to the frontend. `do` and `build` say what the fake pod does, see `buildkitd/script.rs`.
    pub(crate) options: HashMap<String, String>,
    pub(crate) exporters: Vec<Exporter>,
    pub(crate) order: Vec<Part>,
    /// Between two parts' arrivals.
    pub(crate) gap: Duration,
    /// The frontend is named in Control.Solve: no gateway takes part.
    pub(crate) direct: bool,
    pub(crate) internal: bool,
    /// Evaluates the result before it is given back.
    pub(crate) evaluates: bool,
    pub(crate) policy_session: String,
}

impl Plan {
    /// A build with a session of its own, whose parts arrive together.
    pub(crate) fn new(r#ref: &str) -> Self {
        let session = format!("session-of-{ref}");
        Self {
            r#ref: r#ref.to_owned(),
            offer: Some(Offer::new(&session)),
            session,
            options: HashMap::new(),
            exporters: Vec::new(),
            order: vec![Session, Solve, Status, Bridge],
            gap: Duration::ZERO,
            direct: false,
            internal: false,
            evaluates: false,
            policy_session: String::new(),
        }
    }

    /// What the pod does while the frontend runs.
    pub(crate) fn does(self, script: &str) -> Self {
        self.option("do", script)
    }

    /// What the pod does when the result is evaluated.
    pub(crate) fn builds(self, script: &str) -> Self {
        self.option("build", script)
    }

    pub(crate) fn option(mut self, name: &str, value: &str) -> Self {
        self.options.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn offers(self, change: impl FnOnce(Offer) -> Offer) -> Self {
        Self { offer: self.offer.map(change), ..self }
    }

    /// Names a session that somebody else opens, or nobody.
    pub(crate) fn in_session(self, id: &str) -> Self {
        Self { offer: None, session: id.to_owned(), ..self }
    }

    /// Sends `bytes` to the user in the end.
    pub(crate) fn exports(self, bytes: usize) -> Self {
        self.exporter("tar", &[("bytes", &bytes.to_string())])
    }

    pub(crate) fn exporter(mut self, r#type: &str, attrs: &[(&str, &str)]) -> Self {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.exporters.push(Exporter { r#type: r#type.to_owned(), attrs });
        self
    }

    pub(crate) fn in_order(self, order: &[Part], gap: Duration) -> Self {
        Self { order: order.to_vec(), gap, ..self }
    }

    pub(crate) fn directly(self) -> Self {
        Self { direct: true, ..self }
    }

    /// When a part arrives; `None` when it never does.
    pub(super) fn delay(&self, part: Part) -> Option<Duration> {
        let place = self.order.iter().position(|other| *other == part)?;
        Some(self.gap * u32::try_from(place).unwrap())
    }

    pub(crate) fn solve_request(&self) -> SolveRequest {
        let (frontend, frontend_attrs) =
            if self.direct { ("dockerfile.v0".to_owned(), self.options.clone()) } else { Default::default() };
        SolveRequest {
            r#ref: self.r#ref.clone(),
            session: self.session.clone(),
            frontend,
            frontend_attrs,
            internal: self.internal,
            exporters: self.exporters.clone(),
            source_policy_session: self.policy_session.clone(),
            ..SolveRequest::default()
        }
    }

    pub(super) fn frontend_request(&self) -> frontend::SolveRequest {
        frontend::SolveRequest {
            frontend: "dockerfile.v0".to_owned(),
            frontend_opt: self.options.clone(),
            ..frontend::SolveRequest::default()
        }
    }
}
