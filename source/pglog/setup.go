package pglog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// candidate is a table that can be in a publication.
type candidate struct {
	schema, name          string
	partitioned           bool
	children              bool        // other tables inherit from it, and are candidates themselves
	keyless               [][2]string // it, or partitions of it, whose UPDATE and DELETE Postgres would refuse
	published             bool
	mayRead, mayUseSchema bool
}

// A table's replica identity says nothing about its partitions, of which each has its own. A partition's key does
// not tell rows apart for a table without a key. An index that was dropped leaves relreplident as it was, and a
// deferrable key is not a replica identity. Without publish_via_partition_root, pg_publication_tables has a table's
// partitions instead of the table.
var candidatesQuery = `WITH RECURSIVE tree(root, oid) AS (
		SELECT c.oid, c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
		UNION ALL SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid AND c.relkind = 'p'
		JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
	), member AS (
		SELECT tree.root, c.oid, n.nspname, c.relname, c.relreplident, EXISTS (SELECT FROM pg_catalog.pg_index i
			WHERE i.indrelid = c.oid AND i.indimmediate AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END) AS keyed,
			` + identityColumns("c") + ` AS identity
		FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' OR c.oid = tree.root
	)
	SELECT r.nspname::text, r.relname::text, c.relkind = 'p', c.relkind = 'r' AND c.relhassubclass,
	COALESCE((SELECT json_agg(json_build_array(m.nspname, m.relname) ORDER BY m.oid <> m.root, m.nspname, m.relname) FROM member m
		WHERE m.root = r.oid AND m.relreplident <> 'f' AND (m.relreplident = 'n' OR NOT m.keyed OR NOT r.keyed
			OR m.oid <> r.oid AND (r.relreplident = 'f' OR m.identity IS DISTINCT FROM r.identity)))::text, '[]'),
	EXISTS (SELECT FROM pg_catalog.pg_publication_tables p WHERE p.pubname = $1::text AND p.schemaname = r.nspname AND p.tablename = r.relname)
		OR EXISTS (SELECT FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = r.oid
			WHERE p.pubname = $1::text AND (p.puballtables OR m.prrelid IS NOT NULL)),
	has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(c.relnamespace, 'USAGE')
	FROM member r JOIN pg_catalog.pg_class c ON c.oid = r.oid WHERE r.oid = r.root ORDER BY 1, 2`

func (s *Source) candidates(ctx context.Context) (list []candidate, err error) {
	var all []candidate
	err = s.catalog(ctx, func(db session) error {
		return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
			var c candidate
			var keyless string
			err := rows.Scan(&c.schema, &c.name, &c.partitioned, &c.children, &keyless, &c.published, &c.mayRead, &c.mayUseSchema)
			if err == nil {
				err = json.Unmarshal([]byte(keyless), &c.keyless)
			}
			all = append(all, c)
			return err
		}, candidatesQuery, s.Publication)
	})
	if s.Tables == nil || err != nil {
		return all, err
	}
	for _, name := range s.Tables {
		i := slices.IndexFunc(all, func(c candidate) bool { return (table{schema: c.schema, name: c.name}).named(name) })
		if i < 0 {
			return nil, retry.Permanent(fmt.Errorf("%w: the table %s does not exist", ErrTables, name))
		}
		list = append(list, all[i])
	}
	return list, nil
}

// Setup returns the statements that an administrator must run before the first Fetch, with comments. It
// connects as the role that reads, and grants it no more than it needs. The tables are those of the field Tables, or
// else all existing ones. A table without a key, and each of its partitions, gets REPLICA IDENTITY FULL before it is
// published, because Postgres would refuse its updates. A partition that is added later needs it, too. All statements can be run while applications use the tables. It returns "" if nothing is
// missing. The first Fetch creates the slot: from then on, the server keeps its log.
func (s *Source) Setup(ctx context.Context) (string, error) {
	if err := s.check(1); err != nil {
		return "", fail(err, true)
	}
	v, err := s.ask(ctx)
	if err != nil {
		return "", fail(err, false)
	}
	tables, err := s.candidates(ctx)
	if err != nil {
		return "", fail(err, false)
	}
	var role string
	err = s.with(ctx, func(db session) error {
		return db.QueryRowContext(ctx, `SELECT quote_ident(current_user)`).Scan(&role)
	})
	if err != nil {
		return "", fail(err, false)
	}
	b := &script{}
	if v.walLevel != "logical" {
		b.add("The server must be restarted after this.", "ALTER SYSTEM SET wal_level = logical")
	}
	if !v.replicates {
		b.add("The right to read the log.", "ALTER ROLE "+role+" REPLICATION")
	}
	b.publish(s.Publication, v.publication, tables)
	b.grant(role, tables)
	if len(b.lines) == 0 {
		return "", nil
	}
	return "SET lock_timeout = '5s'; -- so that no statement of an application waits for long\n" + strings.Join(b.lines, "\n") + "\n", nil
}

// script is a list of statements with a comment in front of each.
type script struct{ lines []string }

func (b *script) add(comment string, statements ...string) {
	b.lines = append(b.lines, "-- "+comment)
	for _, statement := range statements {
		b.lines = append(b.lines, statement+";")
	}
}

func (c candidate) quoted() string { return quoted(c.schema, c.name) }

func quoted(schema, name string) string {
	quote := postgres.Dialect{}.Quote
	return quote(schema) + "." + quote(name)
}

// publish publishes the tables that are not published yet, and first makes their rows identifiable. A partitioned
// table is published as one table.
func (b *script) publish(publication string, existing *publication, tables []candidate) {
	var names, identities []string
	partitioned := false
	for _, c := range tables {
		for _, t := range c.keyless {
			identities = append(identities, "ALTER TABLE "+quoted(t[0], t[1])+" REPLICA IDENTITY FULL")
		}
		switch {
		case c.published:
		case c.children: // those that are read are published by themselves
			names = append(names, "ONLY "+c.quoted())
		default:
			names = append(names, c.quoted())
		}
		partitioned = partitioned || c.partitioned
	}
	if identities != nil {
		b.add("These tables have no key that identifies their rows, or are partitions with another one than their table: without this, Postgres refuses their UPDATE and DELETE as soon as they are published, or the log lacks the keys. The log then has the whole old rows. A partition that is added later needs the same.", identities...)
	}
	name := postgres.Dialect{}.Quote(publication)
	if existing != nil && !existing.ViaRoot && partitioned {
		b.add("The changes of partitions as those of their table, for each reader of the publication.", "ALTER PUBLICATION "+name+" SET (publish_via_partition_root = true)")
	}
	switch {
	case names == nil:
	case existing != nil:
		b.add("The publication lacks tables.", "ALTER PUBLICATION "+name+" ADD TABLE "+strings.Join(names, ", "))
	default:
		b.add("The tables that are read.", "CREATE PUBLICATION "+name+" FOR TABLE "+strings.Join(names, ", ")+" WITH (publish_via_partition_root = true)")
	}
}

// grant grants the role to read the tables, for the copy.
func (b *script) grant(role string, tables []candidate) {
	var grants []string
	for _, c := range tables {
		if use := "GRANT USAGE ON SCHEMA " + (postgres.Dialect{}).Quote(c.schema) + " TO " + role; !c.mayUseSchema && !slices.Contains(grants, use) {
			grants = append(grants, use)
		}
		if !c.mayRead {
			grants = append(grants, "GRANT SELECT ON "+c.quoted()+" TO "+role)
		}
	}
	if grants != nil {
		b.add("The rights for the copy.", grants...)
	}
}

// Report has the findings of [Source.Check].
type Report struct {
	Problems []string // what keeps the source from reading, with the remedy; none: it can read
	Notes    []string // what an operator should know
	Tables   []string // that are read
	Slot     string   // the state of the slot, in words
	Pinned   int64    // bytes of the log that the server keeps for the slot
}

// String returns the report as lines of text.
func (r Report) String() string {
	lines := []string{"slot: " + r.Slot, fmt.Sprintf("log kept for it: %d MB", r.Pinned>>20), "tables: " + strings.Join(r.Tables, ", ")}
	for _, p := range r.Problems {
		lines = append(lines, "problem: "+p)
	}
	for _, n := range r.Notes {
		lines = append(lines, "note: "+n)
	}
	return strings.Join(lines, "\n") + "\n"
}

// Check reports what is set up and what is missing. It changes nothing.
func (s *Source) Check(ctx context.Context) (Report, error) {
	var r Report
	if err := s.check(1); err != nil {
		return r, fail(err, true)
	}
	v, err := s.ask(ctx)
	if err != nil {
		return r, fail(err, false)
	}
	problem := func(err error) {
		if err != nil {
			r.Problems = append(r.Problems, retry.Text(err))
		}
	}
	problem(s.usable(v))
	if v.publication != nil {
		tables, err := s.readTables(ctx)
		problem(err)
		for _, t := range tables {
			r.Tables = append(r.Tables, t.label())
		}
		problem(copyable(tables))
	}
	r.Pinned = v.pinned()
	r.Slot, r.Notes = v.describe(s.Slot)
	return r, nil
}

// describe returns the state of the slot, and what an operator should know about it.
func (v *server) describe(name string) (state string, notes []string) {
	p := v.slot
	switch {
	case p == nil:
		state = name + " does not exist; the first Fetch creates it"
	case p.ActivePID != 0:
		state = fmt.Sprintf("%s at %v, in use by process %d", name, p.confirmed, p.ActivePID)
	default:
		state = fmt.Sprintf("%s at %v, %s", name, p.confirmed, p.WALStatus)
	}
	switch {
	case v.version < 170000:
		notes = append(notes, "before Postgres 17 a failover loses the slot: the changes from then on need a new copy")
	case p != nil && !p.Failover:
		notes = append(notes, "a failover loses the slot, because it was created without failover => true")
	}
	if v.keep == "-1" {
		notes = append(notes, "max_slot_wal_keep_size is not set: a pipeline that stands still fills the server's disk")
	}
	return state, notes
}
