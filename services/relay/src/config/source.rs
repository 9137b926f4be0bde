//! Merges the file and the environment: `SYSTIR_<SECTION>__<FIELD>` overrides the field of the file.

use std::collections::BTreeMap;
use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};

use super::RelayConfig;
use super::error::{ConfigError, FieldError};

/// Variables that set no field: those of the other programs, and the one that names the file.
const NOT_FIELDS: [&str; 4] = ["SYSTIR_CONFIG", "SYSTIR_URL", "SYSTIR_API_KEY", "SYSTIR_API_SECRET"];

/// Field path -> (name, value) of the variable that sets it.
type Variables = BTreeMap<Vec<String>, (String, String)>;

fn variables(all: impl Iterator<Item = (String, String)>) -> Variables {
    let fields = all.filter(|(name, _)| !NOT_FIELDS.contains(&name.as_str()));
    fields
        .filter_map(|(name, value)| {
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
    variable_of(&variables(environment()), &field.split('.').map(str::to_owned).collect::<Vec<_>>())
}

fn variable_of(variables: &Variables, path: &[String]) -> Option<String> {
    let set = variables.iter().find(|(set, _)| path.starts_with(set))?;
    Some(set.1.0.clone())
}

/// Reads file and environment.
pub(super) fn read(file: &Path) -> Result<RelayConfig, ConfigError> {
    read_with(file, environment())
}

fn read_with(
    file: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<RelayConfig, ConfigError> {
    let without_place = |problem: String| ConfigError {
        file: file.to_owned(),
        at: None,
        variable: None,
        error: FieldError::new("", problem),
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| without_place(format!("it cannot be read: {error}")))?;
    // Only the parser's message: its full text quotes the line, which may hold a secret.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let problem = FieldError::new("", error.message().trim().replace('\n', "; "));
        match error.span() {
            Some(span) => ConfigError::at(file, &text, span.start, problem),
            None => without_place(problem.problem),
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
        let error = match figment.extract::<RelayConfig>() {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        // The value of a variable is parsed as TOML. For a field of type string it is used as is: `007` is
        // then no number.
        if let Kind::InvalidType(_, expected) = &error.kind
            && expected.contains("string")
            && let Some((_, raw)) = variables.get(&error.path)
            && values.get(&error.path).is_some_and(|value| value.as_str().is_none())
        {
            values.insert(error.path.clone(), Value::from(raw.clone()));
            continue;
        }
        let (path, problem) = describe(error);
        let mut found = ConfigError::locate(file, FieldError::new(path.join("."), problem));
        found.variable = variable_of(&variables, &path);
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

/// The field's path and the problem, without any value, which may be a secret.
fn describe(error: figment::Error) -> (Vec<String>, String) {
    let mut path = error.path.clone();
    let known = |names: &[&str]| names.join(", ");
    let problem = match &error.kind {
        Kind::UnknownField(name, names) => {
            // The path may end with it already.
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            format!("there is no such field; fields here: {}", known(names))
        }
        Kind::MissingField(name) => {
            path.push(name.to_string());
            "it is missing".to_owned()
        }
        Kind::InvalidType(found, expected) => {
            format!("expected {expected}, found {}", kind_of(found))
        }
        Kind::InvalidValue(_, expected) | Kind::InvalidLength(_, expected) => format!("expected {expected}"),
        Kind::UnknownVariant(_, names) => format!("must be one of {}", known(names)),
        other => other.to_string(),
    };
    (path, problem)
}

fn kind_of(found: &figment::error::Actual) -> &'static str {
    use figment::error::Actual;
    match found {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "an integer",
        Actual::Float(_) => "a float",
        Actual::Char(_) | Actual::Str(_) => "a string",
        Actual::Seq => "an array",
        Actual::Map => "a table",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::GOOD;
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<RelayConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        read_with(&file, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn error_of(text: &str, environment: &[(&str, &str)]) -> String {
        load(text, environment).unwrap_err().to_string()
    }

    #[test]
    fn a_misspelt_field_is_reported_with_its_line() {
        let text = GOOD.replace("capacity = 4", "capacity = 4\ncapasity = 5");
        let line = text.lines().position(|line| line.contains("capasity")).unwrap() + 1;
        let error = error_of(&text, &[]);
        assert!(
            error.contains(&format!("node.toml:{line}:1: node.capasity: there is no such field")),
            "{error}"
        );
        assert!(error.contains("name, cluster, capacity"), "{error}");
    }

    #[test]
    fn keys_with_dots_are_located() {
        let error = error_of(&GOOD.replace("keys = [\"ku.dk", "kyes = [\"ku.dk"), &[]);
        let line = GOOD.lines().position(|line| line.contains("keys = [\"ku.dk")).unwrap() + 1;
        assert!(error.contains(&format!(":{line}:")), "{error}");
        assert!(error.contains("policy.institutions.ku.dk.kyes"), "{error}");
    }

    #[test]
    fn a_missing_field_is_reported_with_its_section() {
        let error = error_of(&GOOD.replace("capacity = 4", ""), &[]);
        assert!(error.contains("node.toml:2:") && error.contains("node.capacity: it is missing"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_reported() {
        let error = error_of(&GOOD.replace("capacity = 4", "capacity = \"many\""), &[]);
        assert!(error.contains("node.toml:5:") && error.contains("node.capacity: "), "{error}");
        let error = error_of(&GOOD.replace("127.0.0.1:7880", "localhost"), &[]);
        assert!(error.contains("http.listen: "), "{error}");
    }

    #[test]
    fn invalid_toml_is_reported_without_quoting_the_line_which_may_hold_a_secret() {
        let text = GOOD.replace("secret = \"secret\"", "secret = \"hunter2");
        let line = text.lines().position(|line| line.contains("hunter2")).unwrap() + 1;
        let error = error_of(&text, &[]);
        assert!(error.contains(&format!("node.toml:{line}:")) && !error.contains("hunter2"), "{error}");
        let error = error_of(&GOOD.replace("secret = \"secret\"", "secret = 7715"), &[]);
        assert!(error.contains("keys.devkey.secret") && !error.contains("7715"), "{error}");
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let environment = [
            ("SYSTIR_NODE__CAPACITY", "9"),
            ("SYSTIR_KEYS__DEVKEY__SECRET", "007"),
            ("SYSTIR_REGISTRY__ETCD", "[\"http://127.0.0.1:9\"]"),
            ("SYSTIR_POLICY__INSTITUTIONS", "{\"uio.no\" = {keys = [\"a key\"], threshold = 1}}"),
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
    fn an_unknown_variable_is_refused_with_its_name() {
        let error = error_of(GOOD, &[("SYSTIR_NODE__CAPASITY", "9")]);
        assert!(error.starts_with("SYSTIR_NODE__CAPASITY (environment): node.capasity: "), "{error}");
        let error = error_of(GOOD, &[("SYSTIR_TELEMTRY", "x")]);
        assert!(error.starts_with("SYSTIR_TELEMTRY (environment): "), "{error}");
    }
}
