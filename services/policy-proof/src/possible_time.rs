//! The time of a counterexample. The solver takes the date and the day of the week for independent, and any millisecond of
//! any year; so the answer is moved to a minute that exists, if the same policies decide in the same way then.

use cedar_policy::{
    Authorizer, Context, Decision, EntityUid, EvalResult, PolicySet, Request, RestrictedExpression,
};
use cedar_policy_symcc::Env;
use serde::Serialize;
use systir_policy::PolicyTime;

use crate::language::Language;

const DAY_SECONDS: i64 = 86_400;

/// When a request was found to be permitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PossibleTime {
    /// `mon`.
    pub weekday: String,
    /// RFC 3339, UTC. None if only the day of the week could be kept.
    pub at: Option<String>,
}

/// The request at a time that exists, if policies decide in the same way then; and that time, if they read it.
pub(crate) fn settle(found: Env, left: &PolicySet, right: &PolicySet) -> (Env, Option<PossibleTime>) {
    let confirmed = |request: &Request| {
        let decide = |policies: &PolicySet| {
            let response = Authorizer::new().is_authorized(request, policies, &found.entities);
            (response.decision(), response.diagnostics().errors().next().is_some())
        };
        decide(left) == (Decision::Allow, false) && decide(right) == (Decision::Deny, false)
    };
    let Some((now, weekday)) = time(&found.request) else { return (found, None) };
    if at(&found.request, None).is_some_and(|request| confirmed(&request)) {
        return (found, None);
    }
    let days =
        |shift: i64| u64::try_from(now.div_euclid(1000) + shift * DAY_SECONDS).ok().map(PolicyTime::at);
    let moved = (0..7).flat_map(|shift| [shift, -shift]).filter_map(days);
    let same_weekday = moved.clone().filter(|time| time.weekday() == weekday);
    for time in same_weekday.chain(moved) {
        if let Some(request) = at(&found.request, Some(time)).filter(|request| confirmed(request)) {
            let at = Some(time.to_string());
            let possible = PossibleTime { weekday: time.weekday().to_owned(), at };
            return (Env { request, ..found }, Some(possible));
        }
    }
    (found, Some(PossibleTime { weekday, at: None }))
}

/// Milliseconds since 1970, and the day of the week.
fn time(request: &Request) -> Option<(i64, String)> {
    let context = request.context()?;
    let EvalResult::ExtensionValue(now) = context.get("now")? else { return None };
    let EvalResult::EntityUid(weekday) = context.get("weekday")? else { return None };
    // Cedar writes each as an offset: datetime("1970-01-01").offset(duration("5ms")).
    let (_, rest) = now.split_once("duration(\"")?;
    let (milliseconds, _) = rest.split_once("ms")?;
    Some((milliseconds.parse().ok()?, weekday.id().unescaped().to_owned()))
}

/// The request at another time, or without one.
fn at(request: &Request, time: Option<PolicyTime>) -> Option<Request> {
    let EvalResult::Bool(e2ee) = request.context()?.get("e2ee")? else { return None };
    let mut pairs = vec![("e2ee".to_owned(), RestrictedExpression::new_bool(e2ee))];
    if let Some(EvalResult::Long(load)) = request.context()?.get("load_percent") {
        pairs.push(("load_percent".to_owned(), RestrictedExpression::new_long(load)));
    }
    if let Some(time) = time {
        let weekday: EntityUid = format!("Weekday::\"{}\"", time.weekday()).parse().ok()?;
        pairs.push(("now".to_owned(), RestrictedExpression::new_datetime(time.to_string())));
        pairs.push(("weekday".to_owned(), RestrictedExpression::new_entity_uid(weekday)));
    }
    let context = Context::from_pairs(pairs).ok()?;
    let (principal, action, resource) = (request.principal()?, request.action()?, request.resource()?);
    Request::new(principal.clone(), action.clone(), resource.clone(), context, None).ok()
}

impl PossibleTime {
    /// `on Wednesday 2027-02-03 at 10:30 UTC`.
    pub(crate) fn words(&self, language: Language) -> String {
        let (english, danish) = match self.weekday.as_str() {
            "mon" => ("Monday", "mandag"),
            "tue" => ("Tuesday", "tirsdag"),
            "wed" => ("Wednesday", "onsdag"),
            "thu" => ("Thursday", "torsdag"),
            "fri" => ("Friday", "fredag"),
            "sat" => ("Saturday", "lørdag"),
            _ => ("Sunday", "søndag"),
        };
        let moment = self.at.as_deref().and_then(|at| Some((at.get(..10)?, at.get(11..16)?)));
        match (language, moment) {
            (Language::English, Some((date, clock))) => format!("on {english} {date} at {clock} UTC"),
            (Language::English, None) => format!("on a {english}"),
            (Language::Danish, Some((date, clock))) => format!("{danish} {date} kl. {clock} UTC"),
            (Language::Danish, None) => format!("en {danish}"),
        }
    }
}
