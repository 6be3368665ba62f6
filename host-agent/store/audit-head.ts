import type { DatabaseSync } from "node:sqlite";

/** The last line of the audit log: its number, and its SHA-256. */
export interface AuditHead {
  seq: number;
  hash: string;
}

/** The last line of the audit log that was noted, in the table `audit_head`. */
export function auditHeadStore(db: DatabaseSync) {
  const select = db.prepare("SELECT seq, hash FROM audit_head");
  const upsert = db.prepare(`
    INSERT INTO audit_head (id, seq, hash) VALUES (1, :seq, :hash)
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash WHERE excluded.seq > audit_head.seq`);
  return {
    /** The last line of the audit log that was noted; undefined for none. */
    auditHead(): AuditHead | undefined {
      return select.get() as AuditHead | undefined;
    },

    /** Notes a later line; an earlier one changes nothing. */
    setAuditHead({ seq, hash }: AuditHead): void {
      upsert.run({ seq, hash });
    },
  };
}
