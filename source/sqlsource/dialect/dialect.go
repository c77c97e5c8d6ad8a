// Package dialect is the seam between package sqlsource and a database: everything
// that sqlsource and sqlcheckpoint must know about its SQL.
//
//	orders := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Dialect: MyDatabase{}}
//
// Packages postgres, mysql and sqlite implement a [Dialect] each, and package builtin finds
// the one that fits a driver. For another database implement Dialect in your own package and
// set the field Dialect of a Table, a Query or sqlcheckpoint.Options. The example shows one
// for SQL Server. This package has helpers for the parts that most databases share.
package dialect

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Dialect answers the questions about one database. Its methods are safe for concurrent
// use. Those with a context ask the database; an error of the driver is returned wrapped,
// and one that retrying does not help against is marked with retry.Permanent.
type Dialect interface {
	ceiling.SQL // what ceilings for any database need
	Writer
	Reader
	Checkpoints
	Catalogue

	// Choose returns the ceiling that fits a table. It never is a lossy one.
	Choose(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Ceiling, error)
}

// Writer is how statements are written.
type Writer interface {
	// Quote returns a name as a quoted identifier.
	Quote(name string) string

	// Placeholder returns what stands for the n-th argument, from 1: ? or $1.
	Placeholder(n int) string

	// Limit returns the clause that ends an ordered statement after n rows: LIMIT 1.
	Limit(n int) string

	// Compare writes the condition that the key of a row is greater than a key, or with upTo
	// that it is not. It adds the arguments to args. Its error is that of [Misfit].
	Compare(columns []KeyColumn, key []Value, upTo bool, args *Args) (string, error)
}

// Reader is how tables are read.
type Reader interface {
	// Column says how the values of a column are read, and with which expression, if not as
	// it stands. ref is the column for SQL.
	Column(c Column, ref string) (kind row.Kind, expr string)

	// Key makes a key column of a column, or says why it cannot be one. The caller sets
	// Name, Type and Nullable. zone says that rows are read with Settings(true).
	Key(ctx context.Context, db ceiling.Queryer, c Column, ref string, zone bool) (KeyColumn, error)

	// Session asks once, at the first Fetch of a source and after an error, how its connections must
	// be used. It returns an error if text would not arrive unchanged and in UTF-8. zone says that rows
	// are read with Settings(true). table is the one that is read without a condition, nil if there is one.
	Session(ctx context.Context, conn *sql.Conn, zone bool, table []string) (Session, error)

	// Settings returns what makes the text of a result independent of the session's settings, and
	// changes nothing for other statements of the session. zone says that the time zone must
	// be UTC, too.
	Settings(zone bool) Settings

	// Types returns the types of a table's columns, as the catalogue has them. table is the name's
	// parts: a schema, if there is one, and the table. A column that it leaves out is not known.
	// It returns an error if the table lacks a named column, where the database would take the
	// name for something else.
	Types(ctx context.Context, db ceiling.Queryer, table, named []string) (map[string]row.Type, error)

	// Type returns the type of a column that Types does not know, by what the driver says. It
	// guesses nothing.
	Type(c Column) row.Type

	// Invisible returns the columns of a table that a star leaves out.
	Invisible(ctx context.Context, db ceiling.Queryer, table []string) ([]string, error)

	// Size returns an expression for the size in bytes of a column's values as text, NULL for
	// NULL. It should cost little where a value is small: it may return less than 64 KiB of a
	// value that the database stores in so many bytes. "" says that no value is large.
	Size(c Column, ref string) string

	// SchemaVersion returns a statement for a number that changes with the schema, for a database
	// that has one. It is compared after rows were read, to find out whether the columns changed.
	// "" says that the columns are asked for again and compared.
	SchemaVersion(table []string) string

	// Steady returns a condition for a SELECT of a table's rows, which depends on no row. It becomes part of
	// an expression in LIMIT, which must be evaluated before rows are read, in the same snapshot. It is true
	// only while the table has the present columns, and Size counts at most [MaxInline] bytes for each
	// value. Then the rows can be read without Size, and the columns need not be asked for again. ""
	// says that no such condition exists, or that it is not true now.
	Steady(ctx context.Context, db ceiling.Queryer, table []string) (condition string, err error)

	// ColumnsChanged reports whether an error may come of columns that changed.
	ColumnsChanged(err error) bool

	// RefusedValue reports whether the database did not accept the value of an argument.
	RefusedValue(err error) bool

	// History returns what identifies the database's history, at a moment after the call
	// began. It is called for each batch. A nil table is not known. Drawn is that of Marks.
	History(ctx context.Context, db ceiling.Queryer, table []string, drawn string) (History, error)

	// Marks returns what changes when the table is rebuilt or emptied, and what does not change
	// while a program runs. It is called at the start, and now and then. A nil table is not known.
	Marks(ctx context.Context, db ceiling.Queryer, table []string) (Marks, error)

	// Unnoticed says in a clause, which ends each guarantee, what the history does not show.
	Unnoticed() string

	// Explain returns the plan of a statement, and what is bad about it; a finding without a
	// Text says that nothing is. after says that the rows after a key are read, and not all.
	Explain(ctx context.Context, db ceiling.Queryer, statement string, args []any, after bool) ([]string, ceiling.Finding, error)

	// Origin says which table's column the first column of a statement's result is, and whether it
	// is that column of that table. The zero value says that the database does not show it.
	Origin(ctx context.Context, db ceiling.Queryer, statement string, table []string, column string) (Origin, error)
}

// Checkpoints is what sqlcheckpoint needs for the table that it keeps.
type Checkpoints interface {
	// CreateTable returns a statement that creates a table unless it exists.
	CreateTable(table, columns string) string

	// TextType returns the type of a column of ASCII text of at most limit bytes; 0 sets no
	// bound. compared says that values are compared, byte by byte.
	TextType(limit int, compared bool) string

	// LockRows returns the clause with which a SELECT locks its rows until the transaction
	// ends. If it is "", the rows are updated first instead.
	LockRows() string

	// IdleTimeout returns a statement that ends the current transaction when it has been idle
	// for so many milliseconds, or "".
	IdleTimeout(milliseconds int64) string
}

// Catalogue lists what a database has to read.
type Catalogue interface {
	// Relations returns the tables and views of the database, without those of the system and
	// without partitions, which are read through their table. It reads no row of a table but, where
	// the catalogue knows no size, the end of an index.
	Relations(ctx context.Context, db ceiling.Queryer) ([]Relation, error)
}

// Relation is a table or a view.
type Relation struct {
	Schema   string // "" where the database has no schemas
	Database string // its name in front of Name, where Schema is ""
	Name     string
	Kind     string   // "table", "view", or what else the database has, in words
	Key      []string // the primary key, or else the shortest unique key, one without NULL first; nil: no such key
	Nulls    bool     // columns of Key may hold NULL, and rows with NULL there are not told apart
	Branches bool     // a partition or a child that is added to it later may lack a key that the log needs
	Place    string   // an expression for where a row is stored, which tells rows apart without a key, but changes when they move; "": not known
	Rows     int64    // about, as the catalogue has it; -1: not known
	Bytes    int64    // without indexes, about; -1: not known
	Grants   Grants   // what the present role may do
}

// Grants are rights of the present role.
type Grants struct {
	Read    bool // the rows
	Trigger bool // create a trigger on the table, and objects next to it
	Log     bool // read the database's log
}

// Label is the relation's name as [github.com/artifactofdevotion/devotion/source/sqlsource.Table] takes it.
func (r Relation) Label() string {
	if r.Schema == "" {
		return nameOf(r.Name)
	}
	return nameOf(r.Schema) + "." + nameOf(r.Name)
}

func nameOf(name string) string {
	if strings.ContainsAny(name, `."`) {
		return QuoteWith(`"`, name)
	}
	return name
}

// MaxInline is the size in bytes that no value exceeds while the condition of Steady is true.
const MaxInline = 2 << 20

// Savepoint is the name of the savepoint to which the statements of a source go back after an error, if the
// caller has begun a transaction that an error would abort, and has set it.
const Savepoint = "devotion"

// Session prepares a connection for the statements of one call. It returns the connection as these
// statements must use it, and what sets the connection back afterwards, also after an error; nil if nothing was set.
type Session func(ctx context.Context, conn *sql.Conn) (db ceiling.Queryer, restore func(), err error)

// Plain is a [Session] that uses a connection as it is.
func Plain(_ context.Context, conn *sql.Conn) (ceiling.Queryer, func(), error) { return conn, nil, nil }

// Settings are parts of a SELECT. Any of them may be empty.
type Settings struct {
	Before string // in front of the statement
	Hint   string // after its first word
	Where  string // a condition, which is true
}

// Origin is the column of a table that a column of a result shows.
type Origin struct {
	Table  []string // the schema and the name; nil: not known
	Column string   // "" if it is not known
	Same   bool     // it is the column that was asked for
}

// Column is a column of a statement's result, as the driver describes it.
type Column struct {
	Name    string
	Type    string // the driver's name for the type
	Length  int64  // of text and binary strings; 0 or less: not known
	Time    bool   // the driver makes a time.Time of it
	NotNull bool   // the driver says that it holds no NULL

	Precision, Scale int64 // of decimals; 0: not known
}

// KeyColumn is a column of the key.
type KeyColumn struct {
	Name string
	Type string   // the driver's name for the type
	Ref  string   // the column for SQL, with the table's alias: t."id"
	Expr string   // the expression that reads it, "" if it is read as it stands
	Kind row.Kind // how its values are read

	// Bind returns the argument for a value and the expression that compares as
	// the column does, in which %s stands for the placeholder.
	Bind func(Value) (expr string, arg any, err error)

	Nullable bool // it may hold NULL
}

// History tells apart the states that a database can be in. The zero value tells nothing. After a
// change of its parts, reading continues only if the delivered rows prove that they belong to it.
type History struct {
	Parts []HistoryPart

	Mark    uint64        // grows with every commit, and never falls while nothing is lost
	Drawn   uint64        // at least Mark, where Mark can fall although nothing is lost, as when the last rows are deleted
	Flushed uint64        // the mark up to which a crash cannot lose anything
	Boot    string        // changes when the server starts, which can lose what is not flushed; compared like Marks
	Flushes time.Duration // a commit is on disk at most this long after it was made; 0: not known
	Standby bool          // the server is a standby, whose mark can be lower than that of another server
	Same    string        // " AND " and a condition, to append to that of Steady, true only while this is the history and its Mark cannot have fallen; "": no condition
}

// HistoryPart is one thing that identifies a history.
type HistoryPart struct {
	Name    string // the kind of identity, such as "cluster"
	Value   string // "" if it is not known; then it is not compared
	Changed string // the meaning of a different value
	AtLeast bool   // the value is a number without leading zeros, and the true one may be greater: a smaller one is not compared
}

// Marks is what is known about a table, in addition to its History. A change of its parts is a part of
// ordinary life, as after a rebuild: reading continues unless the delivered rows were replaced by
// others. See DESIGN-histories.md of package sqlsource.
type Marks struct {
	Parts []HistoryPart
	Drawn string // the column from which History takes its mark, as AUTO_INCREMENT draws it; "" without one
	File  string // the path of the database's file; "" if it is not one
}
