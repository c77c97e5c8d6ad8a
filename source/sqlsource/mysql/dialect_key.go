package mysql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// bindInteger binds a number: MySQL compares a string with a BIGINT as doubles.
func bindInteger(v dialect.Value) (string, any, error) {
	if v.Tag == dialect.Bytes || v.Tag == dialect.Time {
		return "", nil, errors.New("the column holds integers")
	}
	n, err := v.Integer()
	return "%s", n, err
}

var decimal = regexp.MustCompile(`^-?\d{1,65}(\.(\d{1,38}))?$`)

func bindDecimal(v dialect.Value) (string, any, error) {
	m := decimal.FindStringSubmatch(v.Text)
	if m == nil || v.Tag == dialect.Bytes {
		return "", nil, errors.New("the column holds decimal numbers")
	}
	return fmt.Sprintf("CAST(%%s AS DECIMAL(65,%d))", len(m[2])), v.Text, nil
}

var (
	date  = regexp.MustCompile(`^\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,6})?)?$`)
	clock = regexp.MustCompile(`^-?\d{2,3}:[0-5]\d:[0-5]\d(\.\d{1,6})?$`)
)

// bindDate binds text, which MySQL converts to a date when it compares it with a column of dates.
// Text that is not a date would not be an error, but find no rows, or all of them.
func bindDate(typ string) func(dialect.Value) (string, any, error) {
	layout, form, short := "2006-01-02 15:04:05.999999", date, ", or the date alone"
	if typ == "TIME" {
		layout, form, short = "15:04:05.999999", clock, ""
	}
	return func(v dialect.Value) (string, any, error) {
		if v.Tag == dialect.Time {
			t, err := time.Parse(time.RFC3339Nano, v.Text)
			if typ == "TIMESTAMP" {
				t = t.UTC()
			}
			return "%s", t.Format(layout), err
		}
		if !form.MatchString(v.Text) {
			return "", nil, errors.New("want " + layout + short)
		}
		if v.Tag == dialect.Given && typ != "TIME" { // the database itself may hold 0000-00-00 and 2026-02-30
			text := strings.Replace(v.Text, "T", " ", 1)
			if _, err := time.Parse(layout[:min(len(text), 19)], text); err != nil {
				return "", nil, errors.New("the date or time of day does not exist")
			}
		}
		return "%s", v.Text, nil
	}
}

// wantUTC refuses a TIMESTAMP key in a session whose clock repeats an hour.
func wantUTC(ctx context.Context, db ceiling.Queryer, column string) error {
	var winter, summer int64
	var zone string
	err := db.QueryRowContext(ctx, "SELECT @@session.time_zone, UNIX_TIMESTAMP('2026-01-15 00:00:00'), UNIX_TIMESTAMP('2026-07-15 00:00:00')").Scan(&zone, &winter, &summer)
	if err != nil {
		return fmt.Errorf("sqlsource: reading the session's time zone: %w", err)
	}
	if winter != time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC).Unix() || summer != time.Date(2026, 7, 15, 0, 0, 0, 0, time.UTC).Unix() {
		return dialect.Permanent("the key column %q is a TIMESTAMP, and the session's time zone is %s, in which two moments can have one text; add time_zone=%%27%%2B00:00%%27 to the data source name", column, strconv.Quote(zone))
	}
	return nil
}
