package sqlsink

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// mysqlEngine writes rows as literals in statements of many rows. The server converts a literal
// by the column's type, with strict errors, and needs no round trip to prepare a statement.
type mysqlEngine struct{ dialect.Dialect }

func (mysqlEngine) traits() traits { return traits{anyCase: true, noZone: true} }

func (e mysqlEngine) read(ctx context.Context, db *sqlx.Conn, name []string) (*table, error) {
	types, err := e.Types(ctx, db, name, nil)
	if err != nil || len(types) == 0 {
		return nil, err
	}
	t, schema := &table{}, any(nil)
	if len(name) == 2 {
		schema = name[0]
	}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		c, base := &column{}, ""
		err := rows.Scan(&c.name, &base, &c.fraction, &c.generated, &c.optional)
		c.typ, c.utc = types[c.name], base == "timestamp"
		t.columns = append(t.columns, c)
		return err
	}, `SELECT COLUMN_NAME, DATA_TYPE, COALESCE(DATETIME_PRECISION, -1), COALESCE(GENERATION_EXPRESSION, '') <> '',
			IS_NULLABLE = 'YES' OR COLUMN_DEFAULT IS NOT NULL OR EXTRA LIKE '%auto_increment%'
		FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`, schema, name[len(name)-1])
	if err == nil {
		err = e.readKeys(ctx, db, t, schema, name[len(name)-1])
	}
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT @@max_allowed_packet").Scan(&t.packet)
	}
	t.packet = min(t.packet, mysqlDriver)
	return t, err
}

const (
	// mysqlMode refuses what does not fit, and stores what another server may hold: dates that no
	// calendar has, and the number 0 in a column that draws numbers. A backslash escapes.
	mysqlMode = "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"

	mysqlDriver    = 64 << 20 // the driver's own limit for a packet, unless it is told another
	mysqlStatement = 4 << 20  // how many bytes a statement should have
	mysqlSlack     = 1 << 10
)

// session sets what decides how a literal is read. Without a limit a session that died in a
// transaction would hold its locks for hours; MySQL has no such limit.
func (mysqlEngine) session(ctx context.Context, conn *sqlx.Conn, runs []run) (func(), error) {
	settings := [][2]string{{"sql_mode", "'" + mysqlMode + "'"}, {"character_set_client", "utf8mb4"}, {"collation_connection", "utf8mb4_general_ci"}}
	for _, r := range runs {
		if r.plan.utc() || r.found != nil && r.found.utc() {
			settings = append(settings, [2]string{"time_zone", "'+00:00'"})
			break
		}
	}
	var set, back []string
	for _, s := range settings {
		set = append(set, fmt.Sprintf("@devotion_%s = @@%[1]s, SESSION %[1]s = %s", s[0], s[1]))
		back = append(back, fmt.Sprintf("SESSION %s = @devotion_%[1]s", s[0]))
	}
	setAll, backAll := "SET "+strings.Join(set, ", "), "SET "+strings.Join(back, ", ")
	if at, ok := ctx.Deadline(); ok {
		const idle = "idle_write_transaction_timeout"
		seconds := int(min(max(math.Ceil(time.Until(at).Seconds()), 1), 31536000))
		setAll += fmt.Sprintf(" /*M!100300 , @devotion_idle = @@%s, SESSION %[1]s = IF(@@%[1]s BETWEEN 1 AND %d, @@%[1]s, %[2]d) */", idle, seconds)
		backAll += " /*M!100300 , SESSION " + idle + " = @devotion_idle */"
	}
	restore := func() {
		if _, err := exec(ctx, conn, backAll); err != nil {
			ceiling.Discard(conn.Conn)
		}
	}
	_, err := conn.ExecContext(ctx, setAll)
	return restore, err
}

// exec runs a statement although ctx may have ended.
func exec(ctx context.Context, conn *sqlx.Conn, statement string) (sql.Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return conn.ExecContext(ctx, statement)
}

func (mysqlEngine) culprit(context.Context, *sqlx.Conn, *plan, row.Row) string { return "" }

func (e mysqlEngine) expr(f *field, v value, _ *dialect.Args) (string, error) {
	literal, err := f.appendLiteral(nil, v)
	return string(literal), err
}

func (e mysqlEngine) remove(ctx context.Context, tx *sqlx.Tx, p *plan, keys []row.Row) error {
	return removeSome(ctx, tx, e, p, keys)
}

func (e mysqlEngine) write(ctx context.Context, tx *sqlx.Tx, p *plan, rows []row.Row) error {
	after := ""
	switch {
	case p.key != nil && p.others:
		var err error
		if rows, err = e.update(ctx, tx, p, rows); err != nil {
			return err
		}
	case p.key != nil:
		after = e.onDuplicate(p)
	}
	return e.each(p, rows, "INSERT INTO "+p.name+" ("+p.names(e)+") VALUES ", after, func(statement string) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	})
}

// each makes statements of the rows as lists of literals, and calls f with each.
func (e mysqlEngine) each(p *plan, rows []row.Row, before, after string, f func(statement string) error) error {
	values, limit := make([]value, len(p.fields)), min(mysqlStatement, p.packet/2)
	b := []byte(before)
	for n, r := range rows {
		if err := p.values(r, values); err != nil {
			return err
		}
		start := len(b)
		if start > len(before) {
			b = append(b, ',')
		}
		var err error
		if b, err = p.appendTuple(b, values); err != nil {
			return err
		}
		if size := len(b) - start; len(before)+size+len(after) > p.packet-mysqlSlack {
			return &tooLargeError{size: size, limit: p.packet}
		}
		if len(b)+len(after) > p.packet-mysqlSlack { // it fits only without those before it
			if err := f(string(b[:start]) + after); err != nil {
				return err
			}
			tuple := strings.TrimPrefix(string(b[start:]), ",")
			b = append(append(b[:0], before...), tuple...)
		}
		if len(b) >= limit || n == len(rows)-1 {
			if err := f(string(b) + after); err != nil {
				return err
			}
			b = append(b[:0], before...)
		}
	}
	return nil
}

// tooLargeError is that of a row for which no statement is large enough.
type tooLargeError struct{ size, limit int }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the row takes %d bytes in a statement, and max_allowed_packet is %d", e.size, e.limit)
}

func (p *plan) appendTuple(b []byte, values []value) ([]byte, error) {
	var err error
	for i, v := range values {
		if i == 0 {
			b = append(b, '(')
		} else {
			b = append(b, ',')
		}
		if b, err = p.fields[i].appendLiteral(b, v); err != nil {
			return b, err
		}
	}
	return append(b, ')'), nil
}

func (f *field) appendLiteral(b []byte, v value) ([]byte, error) {
	switch v.form {
	case null:
		return append(b, "NULL"...), nil
	case number: // unquoted: '22' in a BIT column would be two characters, and '0' in a YEAR 2000
		return append(b, v.text...), nil
	case binary:
		data, err := base64.StdEncoding.DecodeString(v.text)
		if err != nil {
			return b, &valueError{f.name, "it is not base64"}
		}
		return appendQuoted(append(b, "_binary"...), string(data)), nil
	}
	return appendQuoted(b, v.text), nil
}

// appendQuoted quotes a string for a session with [mysqlMode] and the character set utf8mb4.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '\'')
	for {
		i := strings.IndexAny(s, "'\\\x00\x1a")
		if i < 0 {
			return append(append(b, s...), '\'')
		}
		c := s[i]
		switch c {
		case 0:
			c = '0'
		case 0x1a:
			c = 'Z'
		}
		b = append(append(b, s[:i]...), '\\', c)
		s = s[i+1:]
	}
}

// refused reports whether an error is that of a record.
func refused(err error) bool {
	return errors.As(err, new(*valueError)) || errors.As(err, new(*tooLargeError)) || errors.Is(err, errMissing)
}
