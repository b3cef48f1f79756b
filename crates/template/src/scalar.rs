//! What a scalar means to CloudFormation, which reads YAML 1.1.

use crate::node::{Style, Tag};

/// A scalar's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar<'n> {
    Null,
    Bool(bool),
    /// As JSON writes it.
    Number(String),
    Text(&'n str),
}

/// Reads a scalar of a YAML document.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read<'n>(value: &'n str, style: Style, tag: Option<&Tag>) -> Result<Scalar<'n>, String> {
    let core = match tag {
        None if style == Style::Plain => return plain(value),
        Some(Tag::Bare) => return plain(value),
        None | Some(Tag::Short(_)) => return Ok(Scalar::Text(value)),
        Some(Tag::Foreign(name)) => return Err(format!("the tag `{name}` means nothing to CloudFormation: remove it")),
        Some(Tag::Core(name)) => name,
    };
    let read = match core.as_str() {
        "str" | "timestamp" => Some(Scalar::Text(value)),
        "null" => Some(Scalar::Null),
        "bool" => boolean(&value.to_ascii_lowercase()).map(Scalar::Bool),
        "int" => integer(value)?.map(Scalar::Number),
        "float" => {
            let whole = || Some(format!("{}.0", integer(value).ok()??));
            float(value).or_else(whole).map(Scalar::Number)
        }
        _ => return Err(format!("the tag `!!{core}` is not supported by CloudFormation: remove it")),
    };
    read.ok_or_else(|| format!("`{value}` is no value for the tag `!!{core}`: remove the tag"))
}

/// What a scalar without quotes and tag is.
fn plain(value: &str) -> Result<Scalar<'_>, String> {
    if matches!(value, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Scalar::Null);
    }
    if let Some(boolean) = boolean(value) {
        return Ok(Scalar::Bool(boolean));
    }
    let number = integer(value)?.or_else(|| float(value));
    Ok(number.map_or(Scalar::Text(value), Scalar::Number))
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// The sign that JSON wants, and the rest.
fn signed(value: &str) -> (&'static str, &str) {
    match (value.strip_prefix('-'), value.strip_prefix('+')) {
        (Some(rest), _) => ("-", rest),
        (None, Some(rest)) => ("", rest),
        (None, None) => ("", value),
    }
}

/// `-17`, `1_000`, `0b1010`, `0777`, `0x1F`, `1:30` (base sixty).
fn integer(value: &str) -> Result<Option<String>, String> {
    let (sign, rest) = signed(value);
    let radix = |digits: &str, radix: u32| {
        let good = !digits.is_empty() && digits.chars().all(|c| c == '_' || c.is_digit(radix));
        let digits = digits.replace('_', "");
        if !good || digits.is_empty() {
            return Ok(None);
        }
        let number = u128::from_str_radix(&digits, radix);
        number.map(|number| Some(number.to_string())).map_err(|_| too_large(value))
    };
    let magnitude = if let Some(digits) = rest.strip_prefix("0b") {
        radix(digits, 2)?
    } else if let Some(digits) = rest.strip_prefix("0x") {
        radix(digits, 16)?
    } else if rest != "0" && rest.starts_with('0') {
        radix(rest, 8)?
    } else if rest.contains(':') {
        sexagesimal(value, rest)?
    } else {
        is_decimal(rest).then(|| rest.replace('_', ""))
    };
    Ok(magnitude.map(|magnitude| if magnitude == "0" { magnitude } else { format!("{sign}{magnitude}") }))
}

fn is_decimal(digits: &str) -> bool {
    digits.starts_with(|c: char| c.is_ascii_digit()) && digits.bytes().all(|byte| byte == b'_' || byte.is_ascii_digit())
}

/// `190:20:30`: each place after the first one has one or two digits below sixty.
fn sexagesimal(value: &str, digits: &str) -> Result<Option<String>, String> {
    let mut places = digits.split(':');
    let first = places.next().unwrap_or_default();
    if !is_decimal(first) {
        return Ok(None);
    }
    let mut number = first.replace('_', "").parse::<u128>().ok();
    for place in places {
        let good = matches!(place.len(), 1 | 2) && place.bytes().all(|byte| byte.is_ascii_digit());
        let Some(place) = place.parse::<u128>().ok().filter(|place| good && *place < 60) else { return Ok(None) };
        number = number.and_then(|number| number.checked_mul(60)?.checked_add(place));
    }
    number.map(|number| Some(number.to_string())).ok_or_else(|| too_large(value))
}

fn too_large(value: &str) -> String {
    let shown: String = value.chars().take(40).collect();
    format!("`{shown}` is a number of more than 128 bits: quote it, or write it in decimal")
}

/// `1.5`, `.5`, `1.`, `1_000.5`, `1.5e+3`, `1:30.5` (base sixty). What is not finite has no number in JSON.
fn float(value: &str) -> Option<String> {
    let (sign, rest) = signed(value);
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    if !fraction.bytes().all(|byte| byte == b'_' || byte.is_ascii_digit()) {
        return None;
    }
    let whole = if whole.is_empty() {
        // `.5` has no sign, and a digit first.
        if rest != value || !is_decimal(fraction) {
            return None;
        }
        "0".to_owned()
    } else if whole.contains(':') {
        if exponent.is_some() {
            return None;
        }
        sexagesimal(value, whole).ok()??
    } else if is_decimal(whole) {
        let digits = whole.replace('_', "");
        let trimmed = digits.trim_start_matches('0');
        if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
    } else {
        return None;
    };
    let fraction = fraction.replace('_', "");
    let fraction = if fraction.is_empty() { "0" } else { &fraction };
    let exponent = match exponent {
        None => String::new(),
        Some(exponent) => {
            let digits = exponent.strip_prefix(['+', '-'])?;
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            format!("e{exponent}")
        }
    };
    Some(format!("{sign}{whole}.{fraction}{exponent}"))
}

/// Whether a list (`seq`) or a mapping (`map`) may have this tag.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_collection(tag: Option<&Tag>, kind: &str) -> Result<(), String> {
    match tag {
        None | Some(Tag::Bare | Tag::Short(_)) => Ok(()),
        Some(Tag::Core(name)) if name == kind => Ok(()),
        Some(Tag::Core(name)) => {
            Err(format!("the tag `!!{name}` does not fit here, or CloudFormation has none: remove it"))
        }
        Some(Tag::Foreign(name)) => Err(format!("the tag `{name}` means nothing to CloudFormation: remove it")),
    }
}
