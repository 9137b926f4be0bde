//! The file and the environment as one: `SYSTIR_<SECTION>__<FIELD>` goes over what the file says.

use std::collections::BTreeMap;
use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};

use super::Config;
use super::error::{ConfigError, Fault};

/// Variables of the other programs, and the one that names the file.
const NOT_OURS: [&str; 4] = ["SYSTIR_CONFIG", "SYSTIR_URL", "SYSTIR_API_KEY", "SYSTIR_API_SECRET"];

/// Variables by the path of the field that they set.
type Variables = BTreeMap<Vec<String>, (String, String)>;

fn variables(all: impl Iterator<Item = (String, String)>) -> Variables {
    let ours = all.filter(|(name, _)| !NOT_OURS.contains(&name.as_str()));
    ours.filter_map(|(name, value)| {
        let rest = name.strip_prefix("SYSTIR_")?;
        let path = rest.to_ascii_lowercase().split("__").map(str::to_owned).collect();
        Some((path, (name, value)))
    })
    .collect()
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The variable that sets a field, if one does.
pub(super) fn variable(field: &str) -> Option<String> {
    blamed(&variables(environment()), &field.split('.').map(str::to_owned).collect::<Vec<_>>())
}

fn blamed(variables: &Variables, path: &[String]) -> Option<String> {
    let set = variables.iter().find(|(set, _)| path.starts_with(set))?;
    Some(set.1.0.clone())
}

/// Reads file and environment.
pub(super) fn read(file: &Path) -> Result<Config, ConfigError> {
    read_with(file, environment())
}

fn read_with(
    file: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let nowhere = |problem: String| ConfigError {
        file: file.to_owned(),
        at: None,
        variable: None,
        fault: Fault::new("", problem),
    };
    let text =
        std::fs::read_to_string(file).map_err(|error| nowhere(format!("it cannot be read: {error}")))?;
    // The parser's own words show the line, and with it what may be a secret.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let fault = Fault::new("", error.message().trim().replace('\n', "; "));
        match error.span() {
            Some(span) => ConfigError::at(file, &text, span.start, fault),
            None => nowhere(fault.problem),
        }
    })?;
    let variables = variables(environment);
    let mut values: BTreeMap<Vec<String>, Value> = variables
        .iter()
        .map(|(path, (_, value))| {
            let value = value.parse::<Value>().unwrap_or_else(|never| match never {});
            (path.clone(), value)
        })
        .collect();
    loop {
        let mut figment = Figment::from(Serialized::defaults(&table));
        for (path, value) in &values {
            figment = figment.merge(Serialized::defaults(nested(path, value.clone())));
        }
        let error = match figment.extract::<Config>() {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        // A variable is text; where text is wanted, `007` is no number.
        if let Kind::InvalidType(_, wanted) = &error.kind
            && wanted.contains("string")
            && let Some((_, raw)) = variables.get(&error.path)
            && values.get(&error.path).is_some_and(|value| value.as_str().is_none())
        {
            values.insert(error.path.clone(), Value::from(raw.clone()));
            continue;
        }
        let (path, problem) = told(error);
        let mut found = ConfigError::locate(file, Fault::new(path.join("."), problem));
        found.variable = blamed(&variables, &path);
        return Err(found);
    }
}

fn nested(path: &[String], value: Value) -> Dict {
    match path {
        [] => Dict::new(),
        [last] => Dict::from([(last.clone(), value)]),
        [first, rest @ ..] => Dict::from([(first.clone(), Value::from(nested(rest, value)))]),
    }
}

/// The field's path and what is wrong, without any value that may be secret.
fn told(error: figment::Error) -> (Vec<String>, String) {
    let mut path = error.path.clone();
    let known = |names: &[&str]| names.join(", ");
    let problem = match &error.kind {
        Kind::UnknownField(name, names) => {
            // It may be on the path already.
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            format!("there is no such field here; there are {}", known(names))
        }
        Kind::MissingField(name) => {
            path.push(name.to_string());
            "it is missing".to_owned()
        }
        Kind::InvalidType(found, wanted) => {
            format!("{wanted} is wanted, and {} was found", kind_of(found))
        }
        Kind::InvalidValue(_, wanted) | Kind::InvalidLength(_, wanted) => format!("{wanted} is wanted"),
        Kind::UnknownVariant(_, names) => format!("it is one of {}", known(names)),
        other => other.to_string(),
    };
    (path, problem)
}

fn kind_of(found: &figment::error::Actual) -> &'static str {
    use figment::error::Actual;
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a fraction",
        Actual::Char(_) | Actual::Str(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::GOOD;
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        read_with(&file, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn told(text: &str, environment: &[(&str, &str)]) -> String {
        load(text, environment).unwrap_err().to_string()
    }

    #[test]
    fn a_misspelt_field_is_told_with_its_line() {
        let text = GOOD.replace("capacity = 4", "capacity = 4\ncapasity = 5");
        let line = text.lines().position(|line| line.contains("capasity")).unwrap() + 1;
        let said = told(&text, &[]);
        assert!(
            said.contains(&format!("node.toml:{line}:1: node.capasity: there is no such field")),
            "{said}"
        );
        assert!(said.contains("name, cluster, capacity"), "{said}");
    }

    #[test]
    fn names_with_dots_are_found() {
        let said = told(&GOOD.replace("file = \"ku.dk.cedar\"", "flie = \"ku.dk.cedar\""), &[]);
        let line = GOOD.lines().position(|line| line.contains("ku.dk.cedar")).unwrap() + 1;
        assert!(said.contains(&format!(":{line}:")), "{said}");
        assert!(said.contains("policy.institutions.ku.dk.flie"), "{said}");
    }

    #[test]
    fn a_missing_field_is_told_with_its_section() {
        let said = told(&GOOD.replace("capacity = 4", ""), &[]);
        assert!(said.contains("node.toml:2:") && said.contains("node.capacity: it is missing"), "{said}");
    }

    #[test]
    fn a_wrong_kind_of_value_is_told() {
        let said = told(&GOOD.replace("capacity = 4", "capacity = \"many\""), &[]);
        assert!(said.contains("node.toml:5:") && said.contains("node.capacity: "), "{said}");
        let said = told(&GOOD.replace("127.0.0.1:7880", "localhost"), &[]);
        assert!(said.contains("http.listen: "), "{said}");
    }

    #[test]
    fn broken_toml_is_told_without_the_line_that_may_hold_a_secret() {
        let text = GOOD.replace("secret = \"secret\"", "secret = \"hunter2");
        let line = text.lines().position(|line| line.contains("hunter2")).unwrap() + 1;
        let said = told(&text, &[]);
        assert!(said.contains(&format!("node.toml:{line}:")) && !said.contains("hunter2"), "{said}");
        let said = told(&GOOD.replace("secret = \"secret\"", "secret = 7715"), &[]);
        assert!(said.contains("keys.devkey.secret") && !said.contains("7715"), "{said}");
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let environment = [
            ("SYSTIR_NODE__CAPACITY", "9"),
            ("SYSTIR_KEYS__DEVKEY__SECRET", "007"),
            ("SYSTIR_REGISTRY__ETCD", "[\"http://127.0.0.1:9\"]"),
            ("SYSTIR_POLICY__INSTITUTIONS", "{\"uio.no\" = {file = \"uio.cedar\", version = 2}}"),
            ("SYSTIR_URL", "http://of-systirctl"),
            ("PATH", "/bin"),
        ];
        let config = load(GOOD, &environment).unwrap();
        assert_eq!(config.node.capacity, 9);
        assert_eq!(config.keys["devkey"].secret.as_deref(), Some("007"));
        assert_eq!(config.registry.etcd, ["http://127.0.0.1:9"]);
        assert_eq!(config.policy.institutions.keys().collect::<Vec<_>>(), ["ku.dk", "uio.no"]);
    }

    #[test]
    fn an_unknown_variable_is_refused_by_its_name() {
        let said = told(GOOD, &[("SYSTIR_NODE__CAPASITY", "9")]);
        assert!(said.starts_with("SYSTIR_NODE__CAPASITY (environment): node.capasity: "), "{said}");
        let said = told(GOOD, &[("SYSTIR_TELEMTRY", "x")]);
        assert!(said.starts_with("SYSTIR_TELEMTRY (environment): "), "{said}");
    }
}
