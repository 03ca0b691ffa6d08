//! Tolerations in buildx's syntax: `;` between entries, `,` between fields, `=` inside.

use super::label::{self, LabelError};

/// Why a toleration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TolerationError {
    #[error("an entry is empty")]
    Empty,
    #[error("`{0}` is no field of a toleration")]
    Field(String),
    #[error("`{0}` is given twice in one entry")]
    Twice(&'static str),
    #[error("unknown operator `{0}`")]
    Operator(String),
    #[error("unknown effect `{0}`")]
    Effect(String),
    #[error("tolerationSeconds `{0}` is no whole number")]
    Seconds(String),
    #[error("an entry without key tolerates everything and needs operator=Exists")]
    NoKey,
    #[error("value `{0}` has no meaning with operator=Exists")]
    ValueWithExists(String),
    #[error("tolerationSeconds needs effect=NoExecute")]
    SecondsWithoutNoExecute,
    #[error("{0}")]
    Label(String),
}

/// One toleration that the API server would accept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toleration {
    pub(crate) key: Option<String>,
    pub(crate) operator: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) effect: Option<String>,
    pub(crate) toleration_seconds: Option<i64>,
}

impl Toleration {
    /// A list of entries.
    ///
    /// # Errors
    /// At the first entry that says nothing, or something that Kubernetes does not know.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, TolerationError> {
        list.split(';').map(Self::parse).collect()
    }

    fn parse(entry: &str) -> Result<Self, TolerationError> {
        if entry.is_empty() {
            return Err(TolerationError::Empty);
        }
        let mut toleration = Self::default();
        for field in entry.split(',') {
            // buildx skips a field that has no `=`, or two: what the user wrote has to count, or be refused.
            let Some((name, value)) = field.split_once('=').filter(|(_, value)| !value.contains('=')) else {
                return Err(TolerationError::Field(field.to_owned()));
            };
            match name {
                "key" => set("key", &mut toleration.key, value.to_owned())?,
                "operator" => set("operator", &mut toleration.operator, value.to_owned())?,
                "value" => set("value", &mut toleration.value, value.to_owned())?,
                "effect" => set("effect", &mut toleration.effect, value.to_owned())?,
                "tolerationSeconds" => {
                    let seconds = value.parse().map_err(|_| TolerationError::Seconds(value.to_owned()))?;
                    set("tolerationSeconds", &mut toleration.toleration_seconds, seconds)?;
                }
                _ => return Err(TolerationError::Field(field.to_owned())),
            }
        }
        toleration.drop_empty();
        toleration.check()?;
        Ok(toleration)
    }

    /// An empty field means the same as one that is not there.
    fn drop_empty(&mut self) {
        for field in [&mut self.key, &mut self.operator, &mut self.value, &mut self.effect] {
            *field = field.take().filter(|text| !text.is_empty());
        }
    }

    fn check(&self) -> Result<(), TolerationError> {
        let label = |error: LabelError| TolerationError::Label(error.to_string());
        let exists = match self.operator.as_deref() {
            None | Some("Equal") => false,
            Some("Exists") => true,
            Some(other) => return Err(TolerationError::Operator(other.to_owned())),
        };
        match self.effect.as_deref() {
            None | Some("NoSchedule" | "PreferNoSchedule" | "NoExecute") => {}
            Some(other) => return Err(TolerationError::Effect(other.to_owned())),
        }
        match &self.key {
            Some(key) => label::key("label key", key).map_err(label)?,
            None if exists => {}
            None => return Err(TolerationError::NoKey),
        }
        match &self.value {
            Some(value) if exists => return Err(TolerationError::ValueWithExists(value.clone())),
            Some(value) => label::value(value).map_err(label)?,
            None => {}
        }
        if self.toleration_seconds.is_some() && self.effect.as_deref() != Some("NoExecute") {
            return Err(TolerationError::SecondsWithoutNoExecute);
        }
        Ok(())
    }
}

fn set<T>(name: &'static str, field: &mut Option<T>, value: T) -> Result<(), TolerationError> {
    match field.replace(value) {
        Some(_) => Err(TolerationError::Twice(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn entries_are_read_as_buildx_reads_them() {
        let list = Toleration::parse_list("key=a,value=b;key=c.io/d,operator=Exists,effect=NoSchedule").unwrap();
        assert_eq!(
            list,
            [
                Toleration { key: text("a"), value: text("b"), ..Toleration::default() },
                Toleration {
                    key: text("c.io/d"),
                    operator: text("Exists"),
                    effect: text("NoSchedule"),
                    ..Toleration::default()
                },
            ]
        );
        let list = Toleration::parse_list("key=a,operator=Equal,effect=NoExecute,tolerationSeconds=60").unwrap();
        assert_eq!(list[0].toleration_seconds, Some(60));
        for entry in
            ["operator=Exists", "key=a,value=", "key=a,effect=,operator=", "operator=Exists,effect=PreferNoSchedule"]
        {
            assert!(Toleration::parse_list(entry).is_ok(), "{entry}");
        }
    }

    #[test]
    fn what_buildx_or_the_api_server_would_drop_or_refuse_is_refused() {
        use TolerationError as E;
        for (list, wanted) in [
            ("", E::Empty),
            ("key=a;", E::Empty),
            (";key=a", E::Empty),
            ("key", E::Field("key".into())),
            ("key=a=b", E::Field("key=a=b".into())),
            ("key=a,", E::Field(String::new())),
            ("key=a, value=b", E::Field(" value=b".into())),
            ("Key=a", E::Field("Key=a".into())),
            ("key=a,seconds=3", E::Field("seconds=3".into())),
            ("key=a,key=b", E::Twice("key")),
            ("key=a,operator=Exist", E::Operator("Exist".into())),
            ("key=a,operator=exists", E::Operator("exists".into())),
            ("key=a,effect=NoRun", E::Effect("NoRun".into())),
            ("key=a,effect=NoExecute,tolerationSeconds=1.5", E::Seconds("1.5".into())),
            ("key=a,effect=NoExecute,tolerationSeconds=", E::Seconds(String::new())),
            ("key=a,tolerationSeconds=5", E::SecondsWithoutNoExecute),
            ("value=b", E::NoKey),
            ("key=,effect=NoSchedule", E::NoKey),
            ("key=a,operator=Exists,value=b", E::ValueWithExists("b".into())),
        ] {
            assert_eq!(Toleration::parse_list(list), Err(wanted), "{list}");
        }
        for list in ["key=a b", "key=a,value=b/c", "key=\"a\""] {
            assert!(matches!(Toleration::parse_list(list), Err(E::Label(_))), "{list}");
        }
    }
}
