//! Where GitLab's public keys come from.

use slipway_aws::parameters::Parameters;
use slipway_identity::Keys;

use crate::{Settings, SettingsError};

/// The keys that sign ID tokens: asked of the instance or, where AWS cannot reach it, read from the SSM parameter that has them.
///
/// # Errors
/// When the settings are not what they should be.
pub fn keys(settings: Settings, parameters: &Parameters) -> Result<Keys, SettingsError> {
    let issuer = settings.gitlab_url()?;
    Ok(match settings.gitlab_keys_parameter()? {
        None => Keys::discovered(issuer),
        Some(name) => {
            let parameters = parameters.clone();
            Keys::read_by(issuer, move || {
                let (parameters, name) = (parameters.clone(), name.clone());
                async move {
                    let text = parameters.text(&name).await.map_err(|error| error.to_string())?;
                    Ok(text.into_bytes())
                }
            })
        }
    })
}
