package ceilings

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/late"
)

func stamped(db *sqlx.DB, name string, c ceiling.Stamp, key ...string) *sqlsource.Table {
	table := lab.Silent(db, name, key...)
	table.Ceiling = c
	return table
}

// number is the column n of a row.
func number(r row.Row) string {
	n, _ := r.Get("n")
	return n
}

// form is a kind of values that stand for moments.
type form struct {
	typ   string
	zone  string
	epoch time.Time
	value func(t time.Time) string // a literal
}

func quoted(layout string) func(time.Time) string {
	return func(t time.Time) string { return "'" + t.Format(layout) + "'" }
}

func utc(layout string) func(time.Time) string {
	return func(t time.Time) string { return "'" + t.UTC().Format(layout) + "'" }
}

func uuid7(t time.Time) string {
	id := fmt.Sprintf("%012x7abc9def012345678901", t.UnixMilli())
	return "'" + strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-") + "'"
}

func ulid(t time.Time) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var id [10]byte
	for i, ms := 9, t.UnixMilli(); i >= 0; i, ms = i-1, ms/32 {
		id[i] = digits[ms%32]
	}
	return "'" + string(id[:]) + "ZZZZZZZZZZZZZZZZ'"
}

// forms returns the kinds of values of a database.
func forms(driver dbtest.Driver) []form {
	epoch := time.UnixMilli(1288834974657)
	tokyo := time.FixedZone("", 9*3600)
	all := []form{
		{"varchar(40)", "UTC", time.Time{}, utc("2006-01-02 15:04:05")}, {"varchar(40)", "", time.Time{}, utc("2006-01-02T15:04:05.000000Z")},
		{"bigint", "", time.Time{}, func(t time.Time) string { return fmt.Sprint(t.Unix()) }}, {"bigint", "", time.Time{}, func(t time.Time) string { return fmt.Sprint(t.UnixMilli()) }},
		{"bigint", "", time.Time{}, func(t time.Time) string { return fmt.Sprint(t.UnixMicro()) }}, {"bigint", "", time.Time{}, func(t time.Time) string { return fmt.Sprint(t.UnixNano()) }},
		{"bigint", "", epoch, func(t time.Time) string { return fmt.Sprint(t.Sub(epoch).Milliseconds()<<22 | 77) }},
		{"varchar(40)", "", time.Time{}, uuid7}, {"char(26)", "", time.Time{}, ulid},
	}
	switch {
	case lab.IsPostgres(driver):
		return append(all, form{"timestamptz", "", time.Time{}, quoted(time.RFC3339Nano)}, form{"timestamp", "UTC", time.Time{}, utc("2006-01-02 15:04:05.000000")},
			form{"timestamp(0)", "Asia/Tokyo", time.Time{}, func(t time.Time) string { return quoted("2006-01-02 15:04:05")(t.In(tokyo)) }}, form{"uuid", "", time.Time{}, uuid7},
			form{"bytea", "", time.Time{}, func(t time.Time) string { return `'\x` + strings.ReplaceAll(uuid7(t), "-", "")[1:] }})
	case lab.IsMariaDB(driver):
		return append(all, form{"timestamp(6)", "", time.Time{}, utc("2006-01-02 15:04:05.000000")}, form{"datetime", "+09:00", time.Time{}, func(t time.Time) string { return quoted("2006-01-02 15:04:05")(t.In(tokyo)) }},
			form{"datetime(3)", "UTC", time.Time{}, utc("2006-01-02 15:04:05.000")}, form{"uuid", "", time.Time{}, uuid7},
			form{"binary(16)", "", time.Time{}, func(t time.Time) string { return "x" + strings.ReplaceAll(uuid7(t), "-", "") }})
	}
	return append(all, form{"datetime", "UTC", time.Time{}, utc("2006-01-02 15:04:05.000")}, form{"text", "", time.Time{}, utc("2006-01-02T15:04:05+00:00")}, form{"", "", time.Time{}, uuid7})
}

// A row is read when its time lies the margin before the database's clock, whatever the form of its time, in
// every time zone of the session. A table may be empty when the source begins.
func TestStampForms(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		if lab.IsPostgres(driver) {
			db.SetMaxOpenConns(1) // the time zone is a setting of the connection
			db.MustExec(`set timezone = 'America/New_York'`)
		}
		for i, f := range forms(driver) {
			name := fmt.Sprint("t", i)
			db.MustExec(fmt.Sprintf(`create table %s (k %s not null, id int not null, n int, primary key (k, id))`, name, f.typ))
			add := func(id int, ago time.Duration) {
				db.MustExec(fmt.Sprintf(`insert into %s values (%s, %d, %[3]d)`, name, f.value(time.Now().Add(-ago)), id))
			}
			src := stamped(db, name, ceiling.Stamp{Margin: time.Hour, Zone: f.zone, Epoch: f.epoch}, "k", "id")
			b, err := lab.Fetch(t, src, "", 10)
			require.NoError(t, err, f.typ)
			require.Empty(t, b.Records)
			add(1, 3*time.Hour)
			add(2, 3700*time.Second)
			add(3, 3500*time.Second)
			b, err = lab.Fetch(t, src, "", 10)
			require.NoError(t, err, f.typ)
			require.Len(t, b.Records, 2, "%v %s", f, f.value(time.Now()))
			require.Equal(t, "the margin of the ceiling "+src.Ceiling.String(), b.Held.By[0])
			require.True(t, b.Guarantee.Lossy)
			require.Contains(t, b.Guarantee.Text, `a row is missed if its "k" (`)
			require.Contains(t, b.Guarantee.Text, ` holds a time more than 1h0m0s before `)
			soon := stamped(db, name, ceiling.Stamp{Margin: time.Second, Zone: f.zone, Epoch: f.epoch}, "k", "id")
			got, _ := lab.ReadAll(t, soon, b.To, 10, number)
			require.Equal(t, []string{"3"}, got)
		}
	})
}

// Values that are not times, or of several kinds, are refused, with what to do. So are rows far ahead of the clock.
func TestStampRefuses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		random := "'f47ac10b-58cc-4372-a567-0e02b2c3d479'"
		cases := map[string]struct {
			typ, values, want string
		}{
			"serial":            {"bigint", "1;2;77", "are not times"},
			"mixed units":       {"bigint", fmt.Sprint(now.Unix(), ";", now.UnixMilli()), "are not times"},
			"random ids":        {"varchar(40)", random, "are not times"},
			"old random ids":    {"varchar(40)", uuid7(now) + ";" + random, "are not times"},
			"words":             {"varchar(40)", "'a';'b'", "are not times"},
			"local text":        {"varchar(40)", "'2026-01-31 12:00:00+01:00'", "are not times"},
			"no zone":           {"varchar(40)", "'2026-01-31 12:00:00'", "has no time zone"},
			"two separators":    {"varchar(40)", "'2026-01-31 12:00:00Z';'2026-01-31T12:00:00Z'", "are not times"},
			"capitals":          {"varchar(40)", "'0194BB5C-0000-7000-8000-000000000001';" + uuid7(now), "are not times"},
			"date":              {"date", "'2026-01-31'", "is a date"},
			"ahead":             {"bigint", fmt.Sprint(now.Add(3 * time.Hour).Unix()), "ahead of the database's clock"},
			"one of them ahead": {"bigint", fmt.Sprint(now.Unix(), ";", now.Add(9*time.Hour).Unix()), "ahead of the database's clock"},
		}
		if lab.IsPostgres(driver) {
			cases["timestamp"] = struct{ typ, values, want string }{"timestamp", "'2026-01-31 12:00:00'", "has no time zone"}
			cases["infinity"] = struct{ typ, values, want string }{"timestamptz", "'infinity'", "ahead of the database's clock"}
		}
		switch {
		case lab.IsPostgres(driver): // in Danish, aa is the last letter
			cases["Danish"] = struct{ typ, values, want string }{`text collate "da-x-icu"`, uuid7(now), "does not sort UUIDs of version 7 by their times"}
		case lab.IsMariaDB(driver):
			cases["Danish"] = struct{ typ, values, want string }{`varchar(40) collate utf8mb4_danish_ci`, uuid7(now), "does not sort UUIDs of version 7 by their times"}
			cases["Estonian"] = struct{ typ, values, want string }{`varchar(40) collate utf8mb4_estonian_ci`, ulid(now), "does not sort ULIDs by their times"}
		}
		for name, c := range cases {
			db.MustExec(`drop table if exists t`)
			db.MustExec(`create table t (k ` + c.typ + ` not null primary key)`)
			for _, v := range strings.Split(c.values, ";") {
				db.MustExec(`insert into t values (` + v + `)`)
			}
			found := unsafeIn(t, stamped(db, "t", ceiling.Stamp{Margin: time.Minute}, "k"))
			require.Len(t, found, 1, name)
			require.Contains(t, found[0].Text, c.want, name)
			require.NotEmpty(t, found[0].Remedies)
		}
		db.MustExec(`drop table t`)
		db.MustExec(`create table t (k bigint not null primary key)`)
		for _, c := range []ceiling.Stamp{{}, {Margin: -1}, {Margin: 1, Bits: 99}, {Margin: 1, Zone: "Mars/Olympus"}, {Margin: 1, Zone: "Local"}} {
			require.Len(t, unsafeIn(t, stamped(db, "t", c, "k")), 1)
		}
	})
}

// A row whose time is older than the margin covers is lost, and package late counts it. An update that sets the
// column is read, and one that does not is not.
func TestStampOutsideOfItsMargin(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (updated_at bigint not null, id int not null primary key, n int)`)
		db.MustExec(`create index by_time on t (updated_at, id)`)
		at := func(ago time.Duration) int64 { return time.Now().Add(-ago).UnixMicro() }
		insert := func(id int, ago time.Duration) {
			db.MustExec(fmt.Sprintf(`insert into t values (%d, %d, 1)`, at(ago), id))
		}
		insert(1, time.Minute)
		src := &late.Source[row.Row]{Table: stamped(db, "t", ceiling.Stamp{Margin: time.Second}, "updated_at", "id"), Every: 1, Logger: lab.Silent(db, "t").Logger}
		got, cursor := lab.ReadAll(t, src, "", 10, number)
		require.Equal(t, []string{"1"}, got)
		db.MustExec(fmt.Sprintf(`update t set n = 2, updated_at = %d where id = 1`, at(0)))
		got, cursor = lab.ReadAll(t, src, cursor, 10, number)
		require.Equal(t, []string{"2"}, got)
		db.MustExec(`update t set n = 3`)
		insert(2, time.Hour)
		got, cursor = lab.ReadAll(t, src, cursor, 10, number)
		require.Empty(t, got)
		lab.WaitFor(t, func() bool {
			_, err := src.Fetch(t.Context(), cursor, 10)
			require.NoError(t, err)
			return src.Reading().Late == 1
		})
		b, err := src.Fetch(t.Context(), cursor, 10)
		require.NoError(t, err)
		require.Regexp(t, `^a row is missed if its "updated_at" \(Unix microseconds\) holds a time more than 1s before .*, by the database's clock, which must not be set back; `+
			`all other rows are read, and its latest version again after each change that sets "updated_at" to a time as recent as that; a change that does not set it is not read`, b.Guarantee.Text)
	})
}

// A row whose time is ahead of the clock is held, and reported as held. The rows before it are read.
func TestStampAheadOfTheClock(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (k bigint not null primary key, n int)`)
		db.MustExec(fmt.Sprintf(`insert into t values (%d, 1), (%d, 2)`, time.Now().Add(-time.Hour).Unix(), time.Now().Add(30*time.Minute).Unix()))
		b, err := lab.Fetch(t, stamped(db, "t", ceiling.Stamp{Margin: time.Second}, "k"), "", 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		require.Regexp(t, `^a time that is (29m|30m).* ahead of the database's clock$`, b.Held.By[0])

		// A clock that was set back shows when it stands before the cursor.
		ahead := lab.Silent(db, "t", "k")
		ahead.Ceiling = ceiling.None{}
		_, at := lab.ReadAll(t, ahead, "", 10, number)
		err = lab.Refused(t, stamped(db, "t", ceiling.Stamp{Margin: time.Second}, "k"), at)
		require.ErrorContains(t, err, "it was set back")
	})
}

// Stamp works for a Query without a Table, and Drain waits for the existing rows.
func TestStampOfASelect(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (k bigint not null primary key, n int)`)
		db.MustExec(fmt.Sprintf(`insert into t values (%d, 7)`, time.Now().UnixMilli()))
		type pair struct{ K, N int64 }
		var got []int64
		p := &poller.Poller[pair]{
			Name: "t", Source: &sqlsource.Query[pair]{DB: db, Select: "select k, n from t where n > 0", Key: []string{"k"}, Ceiling: ceiling.Stamp{Margin: 100 * time.Millisecond}, Logger: lab.Silent(db, "t").Logger},
			Checkpointer: new(pollertest.Checkpointer), Interval: time.Millisecond, DrainWait: lab.WaitLimit,
			Sink: sink.Func[pair](func(_ context.Context, b source.Batch[pair]) error {
				for _, r := range b.Records {
					got = append(got, r.N)
				}
				return nil
			}),
		}
		require.NoError(t, p.Drain(t.Context()))
		require.Equal(t, []int64{7}, got)
	})
}

// A row whose key is NULL is an error. Check finds it, and the greatest key next to it.
func TestStampOfNull(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (k bigint, n int)`)
		db.MustExec(`create index by_k on t (k)`)
		db.MustExec(fmt.Sprintf(`insert into t values (%d, 1), (null, 2)`, time.Now().Unix()))
		for _, c := range []ceiling.Ceiling{ceiling.None{}, ceiling.Stamp{Margin: time.Hour}} {
			table := lab.Silent(db, "t", "k")
			table.Ceiling = c
			_, err := table.Fetch(t.Context(), "", 10)
			lab.RequirePermanent(t, err, `"k" is NULL in a row`)
			found, err := table.Check(t.Context(), "")
			require.NoError(t, err)
			require.False(t, found.Safe())
			require.Contains(t, found.String(), `"k" is NULL in a row`)
		}
	})
}
