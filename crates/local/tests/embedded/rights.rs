//! Rights: what roles, sessions, buckets and keys allow, and that nothing else is.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use slipway_local::stack::make_bucket;
use slipway_local::{DEV, TOOLING};

use crate::{Outcome, emulator, put, read_refused, role, session, stack};

const TARGET_ROLE: &str = "
Resources:
  Shared:
    Type: AWS::IAM::Role
    Properties:
      RoleName: embedded-shared
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement:
          - Effect: Allow
            Principal: {AWS: !Sub 'arn:${AWS::Partition}:iam::999999999999:role/embedded-caller'}
            Action: [sts:AssumeRole, sts:TagSession, sts:SetSourceIdentity]
            Condition: {StringEquals: {sts:ExternalId: slipway-test}}
      Policies:
        - PolicyName: all
          PolicyDocument:
            Version: '2012-10-17'
            Statement: [{Effect: Allow, Action: 's3:*', Resource: '*'}]
Outputs:
  Arn: {Value: !GetAtt Shared.Arn}
";

const CALLER_ROLE: &str = "
Resources:
  Caller:
    Type: AWS::IAM::Role
    Properties:
      RoleName: embedded-caller
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement: [{Effect: Allow, Principal: {AWS: '999999999999'}, Action: sts:AssumeRole}]
      Policies:
        - PolicyName: all
          PolicyDocument:
            Version: '2012-10-17'
            Statement:
              - Effect: Allow
                Action: [sts:AssumeRole, sts:TagSession, sts:SetSourceIdentity]
                Resource: arn:aws:iam::111111111111:role/embedded-shared
Outputs:
  Arn: {Value: !GetAtt Caller.Arn}
";

#[tokio::test]
async fn a_role_in_another_account_trusts_one_role_with_an_external_id_and_a_session_policy_narrows_it() -> Outcome {
    let aws = emulator().await?;
    let (tooling, dev) = (aws.sdk_config(TOOLING), aws.sdk_config(DEV));
    let shared = stack(&dev, "embedded-target", TARGET_ROLE).await?.remove("Arn").ok_or("no role")?;
    assert_eq!(shared, "arn:aws:iam::111111111111:role/embedded-shared");
    let caller = stack(&tooling, "embedded-caller", CALLER_ROLE).await?.remove("Arn").ok_or("no role")?;
    for bucket in ["embedded-mine", "embedded-other"] {
        make_bucket(&dev, bucket).await?;
        put(&dev, bucket, "key").await?;
    }

    let root = aws_sdk_sts::Client::new(&tooling);
    let caller = session(aws, root.assume_role().role_arn(caller)).await?;
    let sts = aws_sdk_sts::Client::new(&caller);
    let assume = || sts.assume_role().role_arn(&shared);
    assert!(session(aws, assume()).await.is_err(), "without the external id");
    assert!(session(aws, assume().external_id("wrong")).await.is_err(), "with a wrong one");
    let by_root = root.assume_role().role_arn(&shared).external_id("slipway-test");
    assert!(session(aws, by_root).await.is_err(), "as another principal of the trusted account");

    let wide = session(aws, assume().external_id("slipway-test")).await?;
    assert_eq!(read_refused(&wide, "embedded-other", "key").await, None);
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::embedded-mine/*"}]}"#;
    let narrow = session(aws, assume().external_id("slipway-test").policy(policy)).await?;
    assert_eq!(read_refused(&narrow, "embedded-mine", "key").await, None);
    assert_eq!(read_refused(&narrow, "embedded-other", "key").await.as_deref(), Some("AccessDenied"));
    Ok(())
}

/// A statement that allows.
fn allow(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}"#)
}

#[tokio::test]
async fn a_source_identity_needs_rights_on_both_sides() -> Outcome {
    let aws = emulator().await?;
    let may = |actions: &str| format!(r#"{{"Effect":"Allow","Action":{actions},"Resource":"*"}}"#);
    let trusting = |actions: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"999999999999"}},"Action":{actions}}}]}}"#
        )
    };
    let (assume, both) = (r#""sts:AssumeRole""#, r#"["sts:AssumeRole","sts:SetSourceIdentity"]"#);
    let callers = [("source-bare", assume), ("source-full", both)];
    for (target, trusted) in [("source-to-bare", assume), ("source-to-full", both)] {
        let client = aws_sdk_iam::Client::new(&aws.sdk_config(DEV));
        let document = trusting(trusted);
        client.create_role().role_name(target).assume_role_policy_document(document).send().await?;
        for (caller, allowed) in callers {
            let caller_config = role(aws, TOOLING, &format!("{caller}-{target}"), &may(allowed)).await?;
            let sts = aws_sdk_sts::Client::new(&caller_config);
            let request = sts.assume_role().role_arn(format!("arn:aws:iam::{DEV}:role/{target}"));
            let named = session(aws, request.source_identity("user")).await;
            assert_eq!(named.is_ok(), trusted == both && allowed == both, "{caller} to {target}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_foreign_bucket_opens_to_the_roles_that_its_policy_and_their_own_name() -> Outcome {
    let aws = emulator().await?;
    let tooling = aws.sdk_config(TOOLING);
    let bucket = "embedded-releases";
    make_bucket(&tooling, bucket).await?;
    for key in ["artifacts/one", "reviews/one"] {
        put(&tooling, bucket, key).await?;
    }
    // As template.yaml writes it: no role need exist, and plain HTTP is refused.
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"s3:GetObject",
         "Resource":"arn:aws:s3:::embedded-releases/artifacts/*",
         "Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/embedded-reader*"}}},
        {"Effect":"Deny","Principal":"*","Action":"s3:*","Condition":{"Bool":{"aws:SecureTransport":"false"}},
         "Resource":["arn:aws:s3:::embedded-releases","arn:aws:s3:::embedded-releases/*"]}]}"#;
    aws_sdk_s3::Client::new(&tooling).put_bucket_policy().bucket(bucket).policy(policy).send().await?;

    let all = allow("s3:GetObject", "arn:aws:s3:::embedded-releases/*");
    let reader = role(aws, DEV, "embedded-reader", &all).await?;
    assert_eq!(read_refused(&reader, bucket, "artifacts/one").await, None);
    assert_eq!(read_refused(&reader, bucket, "reviews/one").await.as_deref(), Some("AccessDenied"));
    let stranger = role(aws, DEV, "embedded-stranger", &all).await?;
    assert_eq!(read_refused(&stranger, bucket, "artifacts/one").await.as_deref(), Some("AccessDenied"));
    let bare = role(aws, DEV, "embedded-reader-bare", &allow("s3:ListBucket", "*")).await?;
    assert_eq!(read_refused(&bare, bucket, "artifacts/one").await.as_deref(), Some("AccessDenied"));
    Ok(())
}

#[tokio::test]
async fn plain_http_is_what_comes_from_another_loopback_address() -> Outcome {
    let aws = emulator().await?;
    let dev = aws.sdk_config(DEV);
    let bucket = "embedded-tls";
    make_bucket(&dev, bucket).await?;
    put(&dev, bucket, "key").await?;
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*",
        "Condition":{"Bool":{"aws:SecureTransport":"false"}},"Resource":"arn:aws:s3:::embedded-tls/*"}]}"#;
    aws_sdk_s3::Client::new(&dev).put_bucket_policy().bucket(bucket).policy(policy).send().await?;
    let reader = role(aws, DEV, "embedded-tls", &allow("s3:GetObject", "*")).await?;
    let lasts = aws_sdk_s3::presigning::PresigningConfig::expires_in(std::time::Duration::from_secs(60))?;
    let signed = aws_sdk_s3::Client::new(&reader).get_object().bucket(bucket).key("key").presigned(lasts).await?;
    for (from, status) in [([127, 0, 0, 1], 200), ([127, 0, 0, 2], 403)] {
        let http = reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from(from)).build()?;
        assert_eq!(http.get(signed.uri()).send().await?.status(), status, "{from:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_may_not_list_reads_403_for_what_is_not_there() -> Outcome {
    let aws = emulator().await?;
    let bucket = "embedded-hidden";
    make_bucket(&aws.sdk_config(DEV), bucket).await?;
    let lists = format!("{},{}", allow("s3:GetObject", "*"), allow("s3:ListBucket", "arn:aws:s3:::embedded-hidden"));
    for (name, statements, code, status) in
        [("hidden-reads", allow("s3:GetObject", "*"), "AccessDenied", 403), ("hidden-lists", lists, "NoSuchKey", 404)]
    {
        let config = role(aws, DEV, name, &statements).await?;
        assert_eq!(read_refused(&config, bucket, "none").await.as_deref(), Some(code));
        let head = aws_sdk_s3::Client::new(&config).head_object().bucket(bucket).key("none").send().await;
        let seen = head.err().and_then(|error| error.raw_response().map(|raw| raw.status().as_u16()));
        assert_eq!(seen, Some(status));
    }
    Ok(())
}

#[tokio::test]
async fn an_object_is_written_once() -> Outcome {
    let aws = emulator().await?;
    let dev = aws.sdk_config(DEV);
    make_bucket(&dev, "embedded-once").await?;
    let client = aws_sdk_s3::Client::new(&dev);
    let once = || client.put_object().bucket("embedded-once").key("key").if_none_match("*").send();
    once().await?;
    let again = once().await;
    assert_eq!(again.err().and_then(|error| error.code().map(str::to_owned)).as_deref(), Some("PreconditionFailed"));
    Ok(())
}

const TABLE: &str = "
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: embedded-keys
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
";

#[tokio::test]
async fn a_right_can_end_at_a_partition_key() -> Outcome {
    use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};

    let aws = emulator().await?;
    stack(&aws.sdk_config(TOOLING), "embedded-keys", TABLE).await?;
    let statement = r#"{"Effect":"Allow","Action":["dynamodb:GetItem","dynamodb:PutItem","dynamodb:Query"],
        "Resource":"*","Condition":{"ForAllValues:StringLike":{"dynamodb:LeadingKeys":["ENV#*"]}}}"#;
    let client = aws_sdk_dynamodb::Client::new(&role(aws, TOOLING, "embedded-keys", statement).await?);
    for (key, allowed) in [("ENV#1", true), ("APPROVAL#1", false)] {
        let value = AttributeValue::S(key.to_owned());
        let get = client.get_item().table_name("embedded-keys").key("pk", value.clone()).send().await;
        assert_eq!(get.is_ok(), allowed, "get {key}");
        let query = client
            .query()
            .table_name("embedded-keys")
            .key_condition_expression("#k = :v")
            .expression_attribute_names("#k", "pk")
            .expression_attribute_values(":v", value.clone())
            .send()
            .await;
        assert_eq!(query.is_ok(), allowed, "query {key}");
        let item = Put::builder().table_name("embedded-keys").item("pk", value).build()?;
        let item = TransactWriteItem::builder().put(item).build();
        let write = client.transact_write_items().transact_items(item).send().await;
        assert_eq!(write.is_ok(), allowed, "transaction {key}");
    }
    Ok(())
}
