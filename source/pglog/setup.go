package pglog

import (
	"context"
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
	partitioned, keyless  bool // keyless: Postgres would refuse UPDATE and DELETE
	published             bool
	mayRead, mayUseSchema bool
}

const candidatesQuery = `SELECT n.nspname::text, c.relname::text, c.relkind = 'p',
	c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid),
	EXISTS (SELECT FROM pg_catalog.pg_publication_tables p WHERE p.pubname = $1::text AND p.schemaname = n.nspname AND p.tablename = c.relname),
	has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(n.oid, 'USAGE')
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	ORDER BY 1, 2`

func (s *Source) candidates(ctx context.Context) (list []candidate, err error) {
	var all []candidate
	err = s.with(ctx, func(db ceiling.Queryer) error {
		all, err = ceiling.List(ctx, db, func(c *candidate) []any {
			return []any{&c.schema, &c.name, &c.partitioned, &c.keyless, &c.published, &c.mayRead, &c.mayUseSchema}
		}, candidatesQuery, s.Publication)
		return err
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
// else all existing ones. A table without a key gets REPLICA IDENTITY FULL before it is published, because Postgres
// would refuse its updates. All statements can be run while applications use the tables. It returns "" if nothing is
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
	err = s.with(ctx, func(db ceiling.Queryer) error {
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
	b.publish(s.Publication, v.publication != nil, tables)
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

func (c candidate) quoted() string {
	quote := postgres.Dialect{}.Quote
	return quote(c.schema) + "." + quote(c.name)
}

// publish publishes the tables that are not published yet, and first makes their rows identifiable.
func (b *script) publish(publication string, exists bool, tables []candidate) {
	var names, identities []string
	root := ""
	for _, c := range tables {
		if c.keyless {
			identities = append(identities, "ALTER TABLE "+c.quoted()+" REPLICA IDENTITY FULL")
		}
		if !c.published {
			names = append(names, c.quoted())
		}
		if c.partitioned {
			root = " WITH (publish_via_partition_root = true)"
		}
	}
	if identities != nil {
		b.add("These tables have no primary key: without this, Postgres refuses their UPDATE and DELETE as soon as they are published. The log then has the whole old rows.", identities...)
	}
	name := postgres.Dialect{}.Quote(publication)
	switch {
	case names == nil:
	case exists:
		b.add("The publication lacks tables.", "ALTER PUBLICATION "+name+" ADD TABLE "+strings.Join(names, ", "))
	default:
		b.add("The tables that are read.", "CREATE PUBLICATION "+name+" FOR TABLE "+strings.Join(names, ", ")+root)
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
