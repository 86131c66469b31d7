//! The discovery document: which methods there are, for clients that build themselves from it, as `bq` does.

use serde_json::{Map, Value, json};

/// Resource, method, verb, path below `/bigquery/v2/`, query arguments, request and response type.
type Method =
    (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// An argument with `*` may be repeated; one with `#` is a number, one with `?` a flag.
const METHODS: &[Method] = &[
    ("projects", "list", "GET", "projects", "maxResults# pageToken", "", "ProjectList"),
    (
        "projects",
        "getServiceAccount",
        "GET",
        "projects/{projectId}/serviceAccount",
        "",
        "",
        "GetServiceAccountResponse",
    ),
    (
        "datasets",
        "list",
        "GET",
        "projects/{projectId}/datasets",
        "all? filter maxResults# pageToken",
        "",
        "DatasetList",
    ),
    ("datasets", "insert", "POST", "projects/{projectId}/datasets", "", "Dataset", "Dataset"),
    ("datasets", "get", "GET", "projects/{projectId}/datasets/{datasetId}", "", "", "Dataset"),
    ("datasets", "patch", "PATCH", "projects/{projectId}/datasets/{datasetId}", "", "Dataset", "Dataset"),
    ("datasets", "update", "PUT", "projects/{projectId}/datasets/{datasetId}", "", "Dataset", "Dataset"),
    ("datasets", "delete", "DELETE", "projects/{projectId}/datasets/{datasetId}", "deleteContents?", "", ""),
    (
        "tables",
        "list",
        "GET",
        "projects/{projectId}/datasets/{datasetId}/tables",
        "maxResults# pageToken",
        "",
        "TableList",
    ),
    ("tables", "insert", "POST", "projects/{projectId}/datasets/{datasetId}/tables", "", "Table", "Table"),
    (
        "tables",
        "get",
        "GET",
        "projects/{projectId}/datasets/{datasetId}/tables/{tableId}",
        "selectedFields view",
        "",
        "Table",
    ),
    (
        "tables",
        "patch",
        "PATCH",
        "projects/{projectId}/datasets/{datasetId}/tables/{tableId}",
        "autodetect_schema?",
        "Table",
        "Table",
    ),
    (
        "tables",
        "update",
        "PUT",
        "projects/{projectId}/datasets/{datasetId}/tables/{tableId}",
        "autodetect_schema?",
        "Table",
        "Table",
    ),
    ("tables", "delete", "DELETE", "projects/{projectId}/datasets/{datasetId}/tables/{tableId}", "", "", ""),
    ("tables", "getIamPolicy", "POST", "{+resource}:getIamPolicy", "", "GetIamPolicyRequest", "Policy"),
    ("tables", "setIamPolicy", "POST", "{+resource}:setIamPolicy", "", "SetIamPolicyRequest", "Policy"),
    (
        "tables",
        "testIamPermissions",
        "POST",
        "{+resource}:testIamPermissions",
        "",
        "TestIamPermissionsRequest",
        "TestIamPermissionsResponse",
    ),
    (
        "tabledata",
        "list",
        "GET",
        "projects/{projectId}/datasets/{datasetId}/tables/{tableId}/data",
        "formatOptions.useInt64Timestamp? maxResults# pageToken selectedFields startIndex",
        "",
        "TableDataList",
    ),
    (
        "tabledata",
        "insertAll",
        "POST",
        "projects/{projectId}/datasets/{datasetId}/tables/{tableId}/insertAll",
        "",
        "TableDataInsertAllRequest",
        "TableDataInsertAllResponse",
    ),
    (
        "jobs",
        "list",
        "GET",
        "projects/{projectId}/jobs",
        "allUsers? maxCreationTime maxResults# minCreationTime pageToken parentJobId projection stateFilter*",
        "",
        "JobList",
    ),
    ("jobs", "insert", "POST", "projects/{projectId}/jobs", "", "Job", "Job"),
    ("jobs", "get", "GET", "projects/{projectId}/jobs/{jobId}", "location", "", "Job"),
    (
        "jobs",
        "cancel",
        "POST",
        "projects/{projectId}/jobs/{jobId}/cancel",
        "location",
        "",
        "JobCancelResponse",
    ),
    ("jobs", "delete", "DELETE", "projects/{projectId}/jobs/{jobId}/delete", "location", "", ""),
    ("jobs", "query", "POST", "projects/{projectId}/queries", "", "QueryRequest", "QueryResponse"),
    (
        "jobs",
        "getQueryResults",
        "GET",
        "projects/{projectId}/queries/{jobId}",
        "formatOptions.useInt64Timestamp? location maxResults# pageToken startIndex timeoutMs#",
        "",
        "GetQueryResultsResponse",
    ),
];

/// Whether a path asks for the document.
pub(super) fn is_asked_for(segments: &[&str]) -> bool {
    matches!(segments, ["$discovery", "rest"] | ["discovery", "v1", "apis", "bigquery", "v2", "rest"])
}

/// For clients that reach the server at `root`, which ends with a slash.
pub(super) fn document(root: &str) -> Value {
    let mut resources = Map::new();
    let mut schemas = Map::new();
    for (resource, name, verb, path, arguments, request, response) in METHODS {
        let mut parameters = Map::new();
        let mut order = Vec::new();
        for parameter in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let parameter = parameter.trim_start_matches('+');
            let mut description = json!({"type": "string", "location": "path", "required": true});
            if parameter == "resource" {
                description["pattern"] = json!("^projects/[^/]+/datasets/[^/]+/tables/[^/]+$");
            }
            parameters.insert(parameter.to_owned(), description);
            order.push(parameter);
        }
        for argument in arguments.split_whitespace() {
            let name = argument.trim_end_matches(['*', '#', '?']);
            let kind = match argument.strip_prefix(name) {
                Some("#") => "integer",
                Some("?") => "boolean",
                _ => "string",
            };
            let mut description = json!({"type": kind, "location": "query"});
            if argument.ends_with('*') {
                description["repeated"] = json!(true);
            }
            parameters.insert(name.to_owned(), description);
        }
        let mut method = json!({
            "id": format!("bigquery.{resource}.{name}"),
            "path": path, "flatPath": path, "httpMethod": verb,
            "parameters": parameters, "parameterOrder": order,
        });
        for (member, kind) in [("request", request), ("response", response)] {
            if !kind.is_empty() {
                method[member] = json!({"$ref": kind});
                schemas.insert((*kind).to_owned(), json!({"id": kind, "type": "object"}));
            }
        }
        if (*resource, *name) == ("jobs", "insert") {
            let upload = |protocol: &str| json!({"multipart": true, "path": format!("/{protocol}/bigquery/v2/{path}")});
            method["supportsMediaUpload"] = json!(true);
            method["mediaUpload"] = json!({
                "accept": ["*/*"],
                "protocols": {"simple": upload("upload"), "resumable": upload("resumable/upload")},
            });
        }
        let entry = resources.entry((*resource).to_owned()).or_insert_with(|| json!({"methods": {}}));
        entry["methods"][*name] = method;
    }
    let argument = |kind: &str| json!({"type": kind, "location": "query"});
    json!({
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "bigquery:v2",
        "name": "bigquery",
        "version": "v2",
        "title": "BigQuery API, embedded server",
        "protocol": "rest",
        "rootUrl": root,
        "servicePath": "bigquery/v2/",
        "baseUrl": format!("{root}bigquery/v2/"),
        "basePath": "/bigquery/v2/",
        "batchPath": "batch/bigquery/v2",
        "parameters": {
            "alt": argument("string"),
            "fields": argument("string"),
            "key": argument("string"),
            "oauth_token": argument("string"),
            "prettyPrint": argument("boolean"),
            "quotaUser": argument("string"),
        },
        "auth": {"oauth2": {"scopes": {"https://www.googleapis.com/auth/bigquery": {"description": "BigQuery"}}}},
        "schemas": schemas,
        "resources": resources,
    })
}
