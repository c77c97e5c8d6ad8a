package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Settings implements [dialect.Reader]. The condition sets what changes the text of values for the
// statement that it is part of, and for no other one: the planner evaluates it once, before the
// first row. So it also holds with a pooler, where each statement can run in another session.
func (Dialect) Settings(zone bool) dialect.Settings {
	set := `set_config('DateStyle', 'ISO, YMD', true), set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '1', true), set_config('bytea_output', 'hex', true)`
	if zone {
		set += `, set_config('TimeZone', 'UTC', true)`
	}
	return dialect.Settings{Where: "(SELECT concat(" + set + ")) IS NOT NULL"}
}

// Session implements [dialect.Reader]. A statement must take a single round trip through a pooler
// that gives each transaction another session of the server, such as PgBouncer: a statement that is
// prepared first may be unknown to the session that executes it, or be somebody else's. lib/pq
// prepares every statement with arguments, also where no pooler is recognised: so it gets none.
// pgx prepares statements by name, which saves the server work. With a pooler it is told not to.
// A pooler is recognised by the process id that it made up for the connection.
//
// A condition must not depend on the session's time zone. What Settings does is too late for a literal, and
// for leaving out partitions, so the session is in UTC while rows are read with a condition or from a view.
func (Dialect) Session(ctx context.Context, conn *sql.Conn, zone bool, table []string) (dialect.Session, error) {
	pgx, inlines, err := inspect(conn)
	if err != nil {
		return nil, err
	}
	s := session{Queryer: conn, mode: pgx.unprepared, inlines: inlines, escapes: true}
	var pid int64
	var client, server, conforming, in string
	var view bool
	name := ""
	if table != nil {
		name = table[len(table)-1]
	}
	err = s.QueryRowContext(ctx, `SELECT pg_backend_pid(), current_setting('client_encoding'), current_setting('server_encoding'), current_setting('standard_conforming_strings'), current_setting('TimeZone'),
		EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relkind = 'v' AND relname = $1::text)`, name).
		Scan(&pid, &client, &server, &conforming, &in, &view)
	if err != nil {
		return nil, err
	}
	s.escapes = conforming == "off"
	if pid == int64(pgx.pid) {
		s.mode = nil
	}
	var set, back []string // poolers keep these settings for each of their clients, because the server reports them
	// In SQL_ASCII there is nothing to convert.
	if client != "UTF8" && server != "SQL_ASCII" && !(client == "SQL_ASCII" && server == "UTF8") {
		set, back = append(set, "SET client_encoding TO 'UTF8'"), append(back, "SET client_encoding TO '"+client+"'")
	}
	if zone && (table == nil || view) && !slices.Contains([]string{"UTC", "Etc/UTC", "GMT"}, in) {
		s.zone = in
		set, back = append(set, "SET TimeZone TO 'UTC'"), append(back, "SET TimeZone TO "+dialect.QuoteWith("'", in))
	}
	return func(ctx context.Context, conn *sql.Conn) (_ ceiling.Queryer, restore func(), err error) {
		s.Queryer = conn
		for i := 0; i < len(set) && err == nil; i++ {
			restore = func() {
				for _, statement := range back {
					ceiling.Restore(ctx, s, statement) //nolint:errcheck // the connection has ended then
				}
			}
			err = ceiling.Exec(ctx, s, set[i])
		}
		return s, restore, err
	}, nil
}

// OneTrip returns a function that rewrites statements of a pool so that each takes a single round
// trip, see Session. Package sqlcheckpoint finds it.
func (Dialect) OneTrip(ctx context.Context, db *sql.DB) (rewrite func(query string, args []any) (string, []any), err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	pgx, inlines, err := inspect(conn)
	return session{mode: pgx.unprepared, inlines: inlines}.prepare, err
}

// session runs statements on a connection, in one round trip each where that is necessary.
type session struct {
	ceiling.Queryer
	mode    any  // pgx's mode of execution without a prepared statement; nil: its default
	inlines bool // arguments are written into the statement
	escapes bool // a backslash in a string escapes the character after it

	zone string // the time zone that the session had before; "": that which it has
}

func (s session) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	query, args = s.prepare(query, args)
	rows, err := s.Queryer.QueryContext(ctx, query, args...)
	if s.recovers(ctx, err) {
		return s.Queryer.QueryContext(ctx, query, args...)
	}
	return rows, err
}

func (s session) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	query, args = s.prepare(query, args)
	r := s.Queryer.QueryRowContext(ctx, query, args...)
	if s.recovers(ctx, r.Err()) {
		return s.Queryer.QueryRowContext(ctx, query, args...)
	}
	return r
}

// recovers goes back to the caller's savepoint, if an error of an earlier statement is why a statement of his
// transaction was refused.
func (s session) recovers(ctx context.Context, err error) bool {
	return err != nil && dberr.SQLState(err) == "25P02" && ceiling.Exec(ctx, s.Queryer, "ROLLBACK TO SAVEPOINT "+dialect.Savepoint) == nil
}

func (s session) prepare(query string, args []any) (string, []any) {
	if s.inlines && len(args) > 0 {
		if text, ok := inline(query, args, s.escapes); ok {
			return text, nil
		}
	}
	if s.mode != nil {
		args = append([]any{s.mode}, args...)
	}
	return query, args
}

// pgxConn is what a connection of pgx says about itself.
type pgxConn struct {
	pid        uint32 // of the server's process, as it was told when it connected
	unprepared any    // the argument for a statement that is not prepared
}

// inspect looks at the driver's connection. pgx is found by reflection, because this module does not
// import it. A connection that another package has wrapped is used as it is.
func inspect(conn *sql.Conn) (pgx pgxConn, inlines bool, err error) {
	err = conn.Raw(func(c any) error {
		v := reflect.ValueOf(c)
		path := reflect.Indirect(v).Type().PkgPath()
		if strings.Contains(path, "lib/pq") {
			inlines = true
			return nil
		}
		if !strings.Contains(path, "jackc/pgx") {
			return nil
		}
		method := v.MethodByName("Conn") // of *stdlib.Conn; it returns a *pgx.Conn
		if !method.IsValid() {
			return nil
		}
		inner := method.Call(nil)[0]
		protocol := inner.MethodByName("PgConn").Call(nil)[0]
		config := inner.MethodByName("Config").Call(nil)[0].Elem()
		mode := config.FieldByName("DefaultQueryExecMode") // of pgx since version 5
		if !mode.IsValid() {
			return nil
		}
		pid, _ := protocol.MethodByName("PID").Call(nil)[0].Interface().(uint32)
		if mode.Int() < execMode { // the others take a single round trip, too
			exec := reflect.New(mode.Type()).Elem()
			exec.SetInt(execMode)
			pgx = pgxConn{pid, exec.Interface()}
		}
		return nil
	})
	return pgx, inlines, err
}

// execMode is pgx.QueryExecModeExec.
const execMode = 4

// inline writes arguments into a statement, in the place of $1, $2, ... outside of quotes and
// comments. ok is false if one of them has no text. Each becomes a literal without a type. Postgres
// gives it the type of the other operand, as it does with the text of an argument.
func inline(query string, args []any, escapes bool) (text string, ok bool) {
	literals := make([]string, len(args))
	for i, arg := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return "", false
		}
		literals[i] = literal(v)
	}
	var b strings.Builder
	for rest := query; rest != ""; {
		n := quoted(rest, escapes)
		if n == 0 && rest[0] == '$' {
			digits := len(rest[1:]) - len(strings.TrimLeft(rest[1:], "0123456789"))
			if k, err := strconv.Atoi(rest[1 : 1+digits]); err == nil && 0 < k && k <= len(literals) {
				b.WriteString(literals[k-1])
				rest = rest[1+digits:]
				continue
			}
		}
		n = max(n, 1)
		b.WriteString(rest[:n])
		rest = rest[n:]
	}
	return b.String(), true
}

// What a parameter is not looked for in: a name, a string, a quoted name, or a comment to the end of
// its line. The second one is for a server where a backslash escapes in each string.
var (
	verbatim = regexp.MustCompile(`(?s)^(?:[eE]` + escaped + `|` + word + `|'[^']*(?:'|$)|` + others + `)`)
	escaping = regexp.MustCompile(`(?s)^(?:[eE]?` + escaped + `|` + word + `|` + others + `)`)
	dollar   = regexp.MustCompile(`^\$(?:[A-Za-z_\x{80}-\x{10ffff}][\w\x{80}-\x{10ffff}]*)?\$`)
)

const (
	escaped = `'(?:[^'\\]|\\.|''|'\s*\n\s*')*(?:'|\\?$)` // also one that another line continues
	word    = `[A-Za-z_\x{80}-\x{10ffff}][\w$\x{80}-\x{10ffff}]*`
	others  = `"[^"]*(?:"|$)|--[^\n]*`
)

// quoted returns the length of the name, string or comment that a text begins with, 0 if it begins
// with none of them.
func quoted(text string, escapes bool) int {
	like := verbatim
	if escapes {
		like = escaping
	}
	tag := dollar.FindString(text)
	switch end := strings.Index(text[len(tag):], tag); {
	case tag != "" && end < 0:
		return len(text)
	case tag != "":
		return 2*len(tag) + end
	case strings.HasPrefix(text, "/*"):
		return comment(text)
	}
	return len(like.FindString(text))
}

// comment returns the length of a comment, in which others may be nested.
func comment(text string) int {
	depth, n := 0, 0
	for n < len(text) {
		switch {
		case strings.HasPrefix(text[n:], "/*"):
			depth++
			n++
		case strings.HasPrefix(text[n:], "*/"):
			depth--
			n++
		}
		if n++; depth == 0 {
			break
		}
	}
	return n
}

// literal writes a value, whatever standard_conforming_strings is.
func literal(v driver.Value) string {
	var text string
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		text = `\x` + hex.EncodeToString(v)
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		text = v.Format(time.RFC3339Nano)
	default:
		text = fmt.Sprint(v)
	}
	// A NUL would end the message. Postgres refuses it in this form, too.
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\x00", `\000`).Replace(text) + "'"
}

var errTransaction = errors.New("the connection ended when a transaction began")

// inTransaction calls f in a transaction that only reads, and for which settings were made.
func inTransaction(ctx context.Context, db ceiling.Queryer, f func() error, settings string) error {
	if err := ceiling.Exec(ctx, db, "SELECT 1"); err != nil { // the connection may be dead already
		return err
	}
	err := ceiling.Exec(ctx, db, "BEGIN READ ONLY")
	if err == nil {
		err = ceiling.Exec(ctx, db, settings)
	}
	if err == nil {
		err = f()
	}
	if dberr.SQLState(err) == "08P01" || errors.Is(err, driver.ErrBadConn) {
		return errTransaction
	}
	return errors.Join(err, ceiling.Restore(ctx, db, "ROLLBACK"))
}
