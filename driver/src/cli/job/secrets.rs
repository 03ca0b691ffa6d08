//! `--secret`: values read here, which go to the cluster in a Secret of the Job.

use std::collections::BTreeMap;
use std::fs::File;

use super::arguments::SecretFile;
use crate::cli::files;
use crate::options::csv_fields;

/// What BuildKit takes of one secret at most.
const ONE: u64 = 500 * 1024;

/// What Kubernetes takes of one Secret, with room for the rest of its object.
const ALL: usize = 1000 * 1024;

/// The secrets that are given, and their values by the names of their files.
#[derive(Default)]
pub(super) struct Secrets {
    pub(super) files: Vec<SecretFile>,
    pub(super) values: BTreeMap<String, Vec<u8>>,
}

/// Reads all of them, or says all that is wrong.
pub(super) fn read(given: &[String], variable: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Secrets, Vec<String>> {
    let (mut secrets, mut errors) = (Secrets::default(), Vec::new());
    for given in given {
        match one(given, &variable) {
            Ok((id, _)) if secrets.files.iter().any(|file| file.id == id) => {
                errors.push(format!("--secret `{given}`: another one has the id `{id}`"));
            }
            Ok((id, value)) => {
                let file = file_name(&id, secrets.files.len());
                secrets.values.insert(file.clone(), value);
                secrets.files.push(SecretFile { id, file });
            }
            Err(problem) => errors.push(format!("--secret `{given}`: {problem}")),
        }
    }
    let size: usize = secrets.values.values().map(Vec::len).sum();
    if size > ALL {
        errors.push(format!("the secrets have {size} bytes together, and a Secret in Kubernetes takes {ALL}"));
    }
    if errors.is_empty() { Ok(secrets) } else { Err(errors) }
}

/// A Secret's keys have fewer characters than BuildKit's ids.
fn file_name(id: &str, count: usize) -> String {
    let is_key = !id.is_empty() && id.len() <= 200 && !id.starts_with('.');
    let is_key = is_key && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if is_key && !id.starts_with("secret-") { id.to_owned() } else { format!("secret-{count}") }
}

fn one(given: &str, variable: &impl Fn(&str) -> Option<Vec<u8>>) -> Result<(String, Vec<u8>), String> {
    let fields = csv_fields(given).map_err(|error| error.to_string())?;
    let (mut id, mut kind, mut source, mut env) = (None, None, None, None);
    for field in &fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("`{field}` is not of the form KEY=VALUE: accepted are id, src and env"));
        };
        match key.to_lowercase().as_str() {
            "id" => id = Some(value),
            "type" if ["file", "env"].contains(&value) => kind = Some(value),
            "type" => return Err(format!("`{value}` is no type of a secret: accepted are file and env")),
            "src" | "source" => source = Some(value),
            "env" => env = Some(value),
            key => return Err(format!("`{key}` is unknown: accepted are id, src and env")),
        }
    }
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err("it has no id: accepted are id, src and env".to_owned());
    };
    if kind == Some("env") && env.is_none() {
        env = source.take();
    }
    // As buildctl: without a source, a variable of this name, else a file.
    let value = match (source, env) {
        (Some(_), Some(_)) => return Err("it has both src and env: its value comes from one of them".to_owned()),
        (Some(path), None) => file(path)?,
        (None, Some(name)) => variable(name).ok_or_else(|| format!("the variable {name} is not set"))?,
        (None, None) => match variable(id).filter(|_| kind != Some("file")) {
            Some(value) => value,
            None => file(id).map_err(|problem| format!("{problem}: src=FILE or env=NAME says where its value is"))?,
        },
    };
    Ok((id.to_owned(), value))
}

fn file(path: &str) -> Result<Vec<u8>, String> {
    let value = File::open(path).map_err(|error| error.to_string()).and_then(|file| files::bounded(file, ONE));
    value.map_err(|problem| format!("failed to read {path}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<Vec<u8>> {
        ["TOKEN", "bare"].contains(&name).then(|| format!("value of {name}").into_bytes())
    }

    #[test]
    fn values_come_from_files_and_variables() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        std::fs::write(&path, b"\0binary\n").expect("ours");
        let path = path.display();
        let of_token = b"value of TOKEN".to_vec();
        for (given, id, file, value) in [
            (format!("id=npm,src={path}"), "npm", "npm", b"\0binary\n".to_vec()),
            (format!("source={path},id=a.b-c_d,type=file"), "a.b-c_d", "a.b-c_d", b"\0binary\n".to_vec()),
            ("id=t,env=TOKEN".to_owned(), "t", "t", of_token.clone()),
            ("type=env,id=t,src=TOKEN".to_owned(), "t", "t", of_token.clone()),
            ("id=TOKEN".to_owned(), "TOKEN", "TOKEN", of_token.clone()),
            ("id=npm:token,env=TOKEN".to_owned(), "npm:token", "secret-0", of_token.clone()),
            ("id=../up,env=TOKEN".to_owned(), "../up", "secret-0", of_token.clone()),
            ("id=secret-1,env=TOKEN".to_owned(), "secret-1", "secret-0", of_token),
        ] {
            let secrets = read(std::slice::from_ref(&given), variable).unwrap_or_else(|errors| panic!("{errors:?}"));
            assert_eq!(secrets.files, [SecretFile { id: id.into(), file: file.into() }], "{given}");
            assert_eq!(secrets.values, BTreeMap::from([(file.to_owned(), value)]), "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        for (given, wanted) in [
            ("npm", "`npm` is not of the form KEY=VALUE"),
            ("src=x", "it has no id: accepted are id, src and env"),
            ("id=,src=x", "it has no id"),
            ("id=a,src=/nonexistent", "failed to read /nonexistent: No such file"),
            ("id=nowhere", "failed to read nowhere: No such file or directory (os error 2): src=FILE or env=NAME says"),
            ("id=a,env=UNSET", "the variable UNSET is not set"),
            ("id=a,src=x,env=TOKEN", "it has both src and env"),
            ("id=a,type=vault", "`vault` is no type of a secret"),
            ("id=a,mode=0400", "`mode` is unknown: accepted are id, src and env"),
        ] {
            let Err(errors) = read(&[given.to_owned()], variable) else { panic!("{given}") };
            assert!(errors.len() == 1 && errors[0].contains(wanted), "{given}: {errors:?}");
        }
        let given = ["id=a,env=TOKEN", "id=a,env=bare", "x"].map(str::to_owned);
        let Err(errors) = read(&given, variable) else { panic!("two are wrong") };
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert_eq!(errors[0], "--secret `id=a,env=bare`: another one has the id `a`");
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, size: u64| {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![b'x'; usize::try_from(size).expect("small")]).expect("ours");
            format!("id={name},src={}", path.display())
        };
        let Err(errors) = read(&[write("large", ONE + 1)], variable) else { panic!("it is too large") };
        assert!(errors[0].contains("large: it has more than 512000 bytes"), "{errors:?}");
        let Err(errors) = read(&["a", "b", "c"].map(|name| write(name, 400 * 1024)), variable) else {
            panic!("they are")
        };
        assert_eq!(errors, ["the secrets have 1228800 bytes together, and a Secret in Kubernetes takes 1024000"]);
    }
}
