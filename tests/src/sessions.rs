//! Stands between the functions and STS, and remembers which sessions they asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::World;
use crate::relay::Request;

/// The functions that enter target accounts.
const ENTERING: [&str; 4] = ["ChangeSetFunction", "WaitForStackFunction", "TeardownFunction", "SettleFunction"];

/// What was sent with one call: `RoleSessionName` → `slipway-…`.
pub type Form = BTreeMap<String, String>;

/// The sessions that were asked for until now.
#[derive(Debug)]
pub struct Sessions {
    /// Where STS is, for whoever is to be remembered.
    pub endpoint: String,
    asked: Arc<Mutex<Vec<Form>>>,
}

impl Sessions {
    /// Remembers from now on what the functions that enter target accounts ask STS for.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn watch(world: &World) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::default();
        let (aws, shared) = (world.control_plane.emulator.port(), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away is no fault.
                tokio::spawn(serve(client, aws, Arc::clone(&shared)));
            }
        });
        for function in ENTERING {
            world.set_variable(function, "AWS_ENDPOINT_URL_STS", &endpoint).await;
        }
        Self { endpoint, asked }
    }

    /// The calls in which a field says this, in order.
    ///
    /// # Panics
    /// When another test has panicked in the middle of this.
    #[must_use]
    pub fn with(&self, field: &str, says: &str) -> Vec<Form> {
        let asked = self.asked.lock().unwrap();
        let says = |form: &&Form| form.get(field).is_some_and(|text| text.contains(says));
        asked.iter().filter(says).cloned().collect()
    }
}

/// One request, and then the connection ends.
async fn serve(client: TcpStream, aws: u16, asked: Arc<Mutex<Vec<Form>>>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
    asked.lock().unwrap().push(form_urlencoded::parse(&request.body).into_owned().collect());
    client.write_all(&request.forward(aws).await?).await?;
    client.shutdown().await
}
