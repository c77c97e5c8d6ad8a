package dialect_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// SQLServer is a dialect from outside of the library, with its own ceiling. It
// compiles against what is exported, but it was never run, for lack of a server to
// test it with.
type SQLServer struct{}

func (SQLServer) Name() string { return "SQL Server" }

func (SQLServer) Quote(name string) string { return "[" + strings.ReplaceAll(name, "]", "]]") + "]" }
func (SQLServer) Placeholder(n int) string { return fmt.Sprintf("@p%d", n) }
func (SQLServer) Limit(n int) string {
	return fmt.Sprintf("OFFSET 0 ROWS FETCH NEXT %d ROWS ONLY", n)
}

// Compare cannot compare rows, (a, b) > (1, 2), which SQL Server lacks.
func (SQLServer) Compare(columns []dialect.KeyColumn, key []dialect.Value, upTo bool, args *dialect.Args) (string, error) {
	return dialect.CompareColumns(columns, key, upTo, args)
}

func (SQLServer) Column(c dialect.Column, ref string) (row.Kind, string) {
	switch c.Type {
	case "TINYINT", "SMALLINT", "INT", "BIGINT", "DECIMAL", "MONEY", "SMALLMONEY", "FLOAT", "REAL":
		return row.Number, ""
	case "BINARY", "VARBINARY", "IMAGE":
		return row.Bytes, ""
	case "DATE":
		return row.Date, ""
	case "DATETIME", "DATETIME2", "SMALLDATETIME":
		return row.Timestamp, ""
	case "DATETIMEOFFSET":
		return row.TimestampTZ, ""
	case "UNIQUEIDENTIFIER": // the driver returns its bytes
		return row.Text, "CONVERT(char(36), " + ref + ")"
	}
	return row.Text, ""
}

func (s SQLServer) Key(_ context.Context, _ ceiling.Queryer, c dialect.Column, ref string, _ bool) (dialect.KeyColumn, error) {
	kind, expr := s.Column(c, ref)
	k := dialect.KeyColumn{Ref: ref, Expr: expr, Kind: kind, Bind: dialect.BindText}
	switch c.Type {
	case "TINYINT", "SMALLINT", "INT", "BIGINT":
		k.Bind = func(v dialect.Value) (string, any, error) {
			n, err := v.Integer()
			return "%s", n, err
		}
	case "BINARY", "VARBINARY": // a rowversion too
		k.Bind = dialect.BindBytes
	case "FLOAT", "REAL", "SQL_VARIANT", "XML":
		return k, dialect.Permanent("the key column %q is of the type %s, which cannot be a key", c.Name, c.Type)
	}
	return k, nil
}

// Session has nothing to ask: the driver converts text to UTF-8.
func (SQLServer) Session(context.Context, *sql.Conn, bool, []string) (dialect.Session, error) {
	return dialect.Plain, nil
}

func (SQLServer) Settings(bool) dialect.Settings { return dialect.Settings{} }

var types = map[string]row.Type{
	"int":              {Class: row.Integer, Bits: 32},
	"bigint":           {Class: row.Integer, Bits: 64},
	"decimal":          {Class: row.Decimal},
	"nvarchar":         {Class: row.String},
	"uniqueidentifier": {Class: row.UUID},
}

func (s SQLServer) Types(ctx context.Context, db ceiling.Queryer, table, _ []string) (map[string]row.Type, error) {
	parse := func(name string) row.Type { return dialect.ParseType(name, types) }
	return dialect.ReadTypes(ctx, db, parse, `SELECT name, TYPE_NAME(user_type_id), CASE is_nullable WHEN 0 THEN 1 ELSE 0 END FROM sys.columns WHERE object_id = OBJECT_ID(@p1)`,
		dialect.QuoteAll(s, table))
}

func (SQLServer) Type(c dialect.Column) row.Type { return dialect.DriverType(c, types) }

func (SQLServer) Steady(context.Context, ceiling.Queryer, []string) (string, error) { return "", nil }
func (SQLServer) Invisible(context.Context, ceiling.Queryer, []string) ([]string, error) {
	return nil, nil
}

func (SQLServer) Size(c dialect.Column, ref string) string {
	switch c.Type {
	case "CHAR", "NCHAR", "VARCHAR", "NVARCHAR", "TEXT", "NTEXT", "BINARY", "VARBINARY", "IMAGE", "XML", "SQL_VARIANT":
		return "DATALENGTH(" + ref + ")"
	}
	return ""
}

func (SQLServer) SchemaVersion([]string) string { return "" }

func number(err error) int32 {
	var e interface{ SQLErrorNumber() int32 }
	if errors.As(err, &e) {
		return e.SQLErrorNumber()
	}
	return 0
}

func (SQLServer) ColumnsChanged(err error) bool { return number(err) == 207 }

func (SQLServer) RefusedValue(err error) bool {
	n := number(err)
	return n == 241 || n == 245 || n == 8114
}

// History uses the recovery fork, which changes when a backup is restored, and
// the database's last row version, which never falls otherwise.
func (s SQLServer) History(ctx context.Context, db ceiling.Queryer, table []string, _ string) (dialect.History, error) {
	var fork, object string
	var h dialect.History
	err := db.QueryRowContext(ctx, `SELECT CONVERT(char(36), recovery_fork_guid), COALESCE(CONVERT(varchar(20), OBJECT_ID(@p1)), ''), CONVERT(bigint, @@DBTS)
		FROM sys.database_recovery_status WHERE database_id = DB_ID()`, dialect.QuoteAll(s, table)).Scan(&fork, &object, &h.Mark)
	h.Flushed = h.Mark
	h.Parts = []dialect.HistoryPart{
		{Name: "recovery fork", Value: fork, Changed: "a backup was restored, or this is another database"},
		{Name: "table", Value: object, Changed: "the table was dropped and recreated"},
	}
	return h, err
}

// Marks has nothing to add: the table's id is part of the History.
func (SQLServer) Marks(context.Context, ceiling.Queryer, []string) (m dialect.Marks, err error) {
	return m, nil
}

func (SQLServer) Unnoticed() string {
	return "if the table is truncated, and the keys pass the cursor again before the next poll, only the delivered rows can show it"
}

func (SQLServer) Explain(context.Context, ceiling.Queryer, string, []any, bool) ([]string, ceiling.Finding, error) {
	return nil, ceiling.Finding{Level: ceiling.Note, Text: "the plan is not read on SQL Server"}, nil
}

func (SQLServer) Origin(context.Context, ceiling.Queryer, string, []string, string) (dialect.Origin, error) {
	return dialect.Origin{}, nil
}

// Relations is needed to recommend how tables can be read, and by nothing else.
func (SQLServer) Relations(context.Context, ceiling.Queryer) ([]dialect.Relation, error) {
	return nil, errors.New("SQL Server's tables are not listed")
}

func (SQLServer) Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return RowVersion{}, nil
}

func (SQLServer) TimeLayout(typ string) (layout string, utc bool) {
	switch typ {
	case "DATETIMEOFFSET":
		return "2006-01-02 15:04:05.000000Z07:00", true
	case "DATETIME2":
		return "2006-01-02 15:04:05.000000", false
	}
	return "", false
}

func (SQLServer) Transactions(context.Context, ceiling.Queryer, ceiling.Table, *ceiling.Report) (ceiling.Transactions, error) {
	return ceiling.Unlisted("SELECT DATEDIFF_BIG(microsecond, '1970-01-01', SYSUTCDATETIME())"), nil
}

func (SQLServer) CreateTable(table, columns string) string {
	return "IF OBJECT_ID('" + strings.ReplaceAll(table, "'", "''") + "') IS NULL CREATE TABLE " + table + " (" + columns + ")"
}

func (SQLServer) TextType(limit int, _ bool) string {
	size := "max"
	if limit > 0 && limit <= 8000 {
		size = fmt.Sprint(limit)
	}
	return "VARCHAR(" + size + ") COLLATE Latin1_General_BIN2"
}

func (SQLServer) LockRows() string         { return "" }
func (SQLServer) IdleTimeout(int64) string { return "" }

// RowVersion guards a table whose key is its rowversion column, which each INSERT
// and UPDATE sets to a number that only grows. All below MIN_ACTIVE_ROWVERSION()
// is committed: it is the lowest number of a transaction in progress.
type RowVersion struct{}

func (RowVersion) String() string { return "row-version" }

// Open checks that the key has the required type.
func (c RowVersion) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	r := ceiling.Report{Strategy: c.String()}
	key := t.Key[0]
	typ, err := ceiling.Texts(ctx, db, `SELECT t.name FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id
		WHERE c.object_id = OBJECT_ID(@p1) AND c.name = @p2`, t.Name, key.Name)
	if err != nil {
		return nil, fmt.Errorf("reading the type of the key: %w", err)
	}
	if !slices.Contains(typ, "timestamp") { // the old name, which the catalogue keeps; the driver calls it BINARY
		r.Add(ceiling.Unsafe, ceiling.Advice("add a rowversion column with a unique index, and set Key to it",
			"ALTER TABLE "+t.Name+" ADD version rowversion", "CREATE UNIQUE INDEX by_version ON "+t.Name+" (version)"),
			"the key begins with %q of the type %s, not rowversion", key.Name, strings.Join(typ, ""))
		return nil, r.Err(t)
	}
	r.Guarantee = "every row is read once it is committed, and its latest version again after each change, below the oldest transaction in progress"
	return rowVersion{
		report: r,
		ends:   "SELECT CONVERT(bigint, MIN_ACTIVE_ROWVERSION()), COALESCE(CONVERT(bigint, (SELECT max(" + key.Quoted + ") FROM " + t.Name + ")), 0)",
		where:  key.Ref + " < CONVERT(binary(8), CONVERT(bigint, ?))",
	}, nil
}

type rowVersion struct {
	report      ceiling.Report
	ends, where string
}

func (g rowVersion) Report() ceiling.Report { return g.report }

// Advance reads the limit in a separate statement. The statement that reads the
// rows begins after it, so it sees all rows that were committed by then, whatever
// the isolation level. In one statement the limit could be newer than the rows.
func (g rowVersion) Advance(ctx context.Context, db ceiling.Queryer, _ []string) (ceiling.Limit, error) {
	at := time.Now()
	var active, top int64
	if err := db.QueryRowContext(ctx, g.ends).Scan(&active, &top); err != nil {
		return ceiling.Limit{}, fmt.Errorf("reading the oldest row version in progress: %w", err)
	}
	l := ceiling.Limit{Where: g.where, Args: []any{active}, AsOf: at}
	if top >= active {
		l.AsOf = time.Time{}
		l.Held = &source.Held{Since: at, By: []string{"a transaction in progress; see sys.dm_tran_database_transactions"}}
	}
	return l, nil
}

// A database that is not built in needs no change to the library: a Dialect, and
// a ceiling if it has one.
func ExampleDialect() {
	var d dialect.Dialect = SQLServer{}
	orders := &sqlsource.Table{DB: db, Name: "dbo.orders", Key: []string{"version"}, Dialect: d}
	fmt.Println(orders.Describe(""))
	fmt.Println(d.Quote("a]b"), d.Placeholder(1), d.Limit(1000))
	// Output:
	// dbo.orders before the first row
	// [a]]b] @p1 OFFSET 0 ROWS FETCH NEXT 1000 ROWS ONLY
}
