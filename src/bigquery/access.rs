//! Which permission a call needs, and the smallest predefined role that has it.
//!
//! From Google's reference of BigQuery's permissions and roles; a 403 names neither.

/// What a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub permissions: &'static str,
    pub role: &'static str,
}

impl Need {
    pub const GET_TABLE: Need = need("bigquery.tables.get", "BigQuery Metadata Viewer");
    pub const GET_DATA: Need = need("bigquery.tables.getData", "BigQuery Data Viewer");
    pub const INSERT_ROWS: Need = need("bigquery.tables.updateData", "BigQuery Data Editor");
    pub const RUN_JOB: Need = need("bigquery.jobs.create", "BigQuery Job User");
    pub const EXPORT: Need = need("bigquery.tables.export", "BigQuery Data Viewer");
    pub const LIST_TABLES: Need = need("bigquery.tables.list", "BigQuery Metadata Viewer");
    pub const CREATE_TABLE: Need = need("bigquery.tables.create", "BigQuery Data Editor");
    pub const UPDATE_TABLE: Need = need("bigquery.tables.update", "BigQuery Data Editor");
    pub const DELETE_TABLE: Need = need("bigquery.tables.delete", "BigQuery Data Editor");
    pub const GET_DATASET: Need = need("bigquery.datasets.get", "BigQuery Metadata Viewer");
    pub const CREATE_DATASET: Need = need("bigquery.datasets.create", "BigQuery User");
    pub const GET_POLICY: Need = need("bigquery.tables.getIamPolicy", "BigQuery Data Owner");
    pub const SET_POLICY: Need = need("bigquery.tables.setIamPolicy", "BigQuery Data Owner");

    /// For the `hint:` line of a refusal.
    pub fn hint(self) -> String {
        format!("the account needs {}, which the role {} has", self.permissions, self.role)
    }
}

const fn need(permissions: &'static str, role: &'static str) -> Need {
    Need { permissions, role }
}
