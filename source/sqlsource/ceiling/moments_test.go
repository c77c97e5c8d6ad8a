package ceiling

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// typedSQL is a database with a type of times.
type typedSQL struct {
	fakeSQL
	utc bool
}

func (s typedSQL) TimeLayout(string) (layout string, utc bool) {
	return "2006-01-02 15:04:05.000000", s.utc
}

// kinds returns values of each kind, with the type of their column.
func kinds() map[string][2]string {
	return map[string][2]string{
		"Unix seconds": {"INT8", "1767225600"}, "Unix milliseconds": {"INT8", "1767225600123"}, "Unix microseconds": {"INT8", "1767225600123456"},
		"Unix nanoseconds": {"INT8", "1767225600123456789"}, "UUIDs of version 7": {"UUID", "019b76da-a87b-7000-8000-000000000000"}, "uuid in hex": {"BYTEA", "019b76daa87b70008000000000000000"},
		"capital uuid": {"TEXT", "019B76DA-A87B-7000-8000-000000000000"}, "ULIDs": {"TEXT", "01KDVDNA3VZZZZZZZZZZZZZZZZ"}, "small ulid": {"TEXT", "01kdvdna3vzzzzzzzzzzzzzzzz"},
		"times in text": {"TEXT", "2026-01-01T00:00:00.123Z"}, "text of SQLite": {"TEXT", "2026-01-01 00:00:00+00:00"},
	}
}

// A value that is made of a moment is the least of that moment, and values are in the order of their moments.
func TestMoments(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	for name, k := range kinds() {
		table := Table{SQL: fakeSQL{}, Key: []Column{{Type: k[0]}}}
		m := (Stamp{}).momentsOf(table, nil, []string{k[1], k[1]})
		require.NotNil(t, m, name)
		whole, ok := m.parse(k[1])
		require.True(t, ok)
		require.InDelta(t, 1767225600e6, whole, 1e6, name)
		if name[:1] != "c" && name[:1] != "s" && name[:1] != "t" && name[:2] != "uu" {
			require.Equal(t, name, m.name)
		}
		last, before := any(nil), int64(0)
		for range 1000 {
			micros := before + random.Int64N(3*m.step)
			value := m.encode(micros - micros%m.step)
			text, isText := value.(string)
			if b, ok := value.([]byte); ok {
				text = hex.EncodeToString(b)
			} else if !isText {
				text = fmt.Sprint(value)
			}
			if micros > earliest && name != "text of SQLite" && name != "times in text" {
				got, ok := m.parse(text)
				require.True(t, ok, "%s: %s", name, text)
				require.Equal(t, micros-micros%m.step, got, name)
			}
			if last != nil {
				require.LessOrEqual(t, compareValues(last, value), 0, name)
			}
			last, before = value, max(micros, 1767225600e6)
		}
		require.LessOrEqual(t, m.at(time.UnixMicro(1767225600123456)), int64(1767225600123456))
	}
	flake := (Stamp{Epoch: time.UnixMilli(1288834974657)}).momentsOf(Table{SQL: fakeSQL{}, Key: []Column{{}}}, nil, []string{"1541815603606036480", "1541815603606036480"})
	got, _ := flake.parse("1541815603606036480")
	require.Equal(t, "2022-06-28T16:07:40.105Z", time.UnixMicro(got).UTC().Format(time.RFC3339Nano))
	require.Equal(t, int64(1541815603606036480)>>22<<22, flake.encode(got))
}

func compareValues(a, b any) int {
	switch a := a.(type) {
	case int64:
		return cmp.Compare(a, b.(int64))
	case []byte:
		return bytes.Compare(a, b.([]byte))
	}
	return cmp.Compare(a.(string), b.(string))
}

// What is not a time, or not of one kind with the others, is not taken for one.
func TestNoMoments(t *testing.T) {
	t.Parallel()
	for _, ends := range [][]string{
		{"1", "2"}, {"1767225600", "1767225600123"}, {"-5", "1767225600"}, {"1767225600.5", "1767225600.5"}, {"946684799", "1767225600"}, {"", "1767225600"},
		{"019b7731-f07b-4000-8000-000000000000", "019b7731-f07b-7000-8000-000000000000"}, {"019b7731-f07b-7000-8000-000000000000", "f19b7731-f07b-4000-8000-000000000000"},
		{"019b7731-f07b-7000-0000-000000000000", "019b7731-f07b-7000-0000-000000000000"}, {"00000000-0000-7000-8000-000000000000", "019b7731-f07b-7000-8000-000000000000"},
		{"019B7731-F07B-7000-8000-000000000000", "019b7731-f07b-7000-8000-000000000000"}, {"01KDVK3W3VZZZZZZZZZZZZZZZU", "01KDVK3W3VZZZZZZZZZZZZZZZU"}, {"81KDVK3W3VZZZZZZZZZZZZZZZZ", "81KDVK3W3VZZZZZZZZZZZZZZZZ"},
		{"2026-01-01", "2026-01-01"}, {"2026-13-01 00:00:00Z", "2026-13-01 00:00:00Z"}, {"2026-01-01 00:00:00", "2026-01-01 00:00:00Z"}, {"2026-01-01T00:00:00Z", "2026-01-01 00:00:00Z"}, {"2026-01-01 00:00:00+02:00", "2026-01-01 00:00:00+02:00"},
	} {
		require.Nil(t, Stamp{}.momentsOf(Table{SQL: fakeSQL{}, Key: []Column{{}}}, time.UTC, ends), ends)
	}
}

// Times of a type are read with and without fractions. What no calendar has is before all others, or later.
func TestTypedMoments(t *testing.T) {
	t.Parallel()
	tokyo, err := loadZone("Asia/Tokyo")
	require.NoError(t, err)
	for _, utc := range []bool{false, true} {
		m := Stamp{}.momentsOf(Table{SQL: typedSQL{utc: utc}, Key: []Column{{}}}, tokyo, nil)
		for _, text := range []string{"2026-01-01T00:00:00.5Z", "2026-01-01 00:00:00.500000", "2026-01-01T00:00:00.5"} {
			got, ok := m.parse(text)
			require.True(t, ok)
			require.Equal(t, int64(1767225600500000), got)
		}
		for _, text := range []string{"infinity", "10000-01-01T00:00:00Z"} {
			got, ok := m.parse(text)
			require.True(t, ok)
			require.Greater(t, got, int64(1e18))
		}
		for _, text := range []string{"-infinity", "0044-03-15T00:00:00 BC", "0044-03-15T00:00:00Z BC", "0000-00-00 00:00:00", "0000-00-00T00:00:00.000000"} {
			got, ok := m.parse(text)
			require.True(t, ok)
			require.Less(t, got, int64(-1e18))
			require.Negative(t, micros(got-m.at(time.Now())), "it is not ahead of the clock")
		}
		at := m.at(time.UnixMicro(1767225600500000))
		require.Equal(t, map[bool]string{false: "2026-01-01 09:00:00.500000", true: "2026-01-01 00:00:00.500000"}[utc], m.encode(at))
	}
}

// Where clocks are set back for the winter, no value can be given below the moment that was found for an earlier time.
func TestMomentsInWinter(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "+05:45", "-03:30"} {
		zone, err := loadZone(name)
		require.NoError(t, err)
		m := timesOf("2006-01-02 15:04:05", false, zone)
		last := int64(0)
		for minute := range 366 * 24 * 6 {
			now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(minute) * 10 * time.Minute)
			at := m.at(now)
			for ahead := time.Duration(0); ahead < 2*time.Hour; ahead += 10 * time.Minute {
				if at < last || wall(now.Add(ahead).In(zone)) < at { // require is slow
					require.FailNow(t, "it falls", "%s: %s", name, now)
				}
			}
			last = at
		}
		require.Equal(t, wall(time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC).In(zone)), m.at(time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)))
	}
	_, err := loadZone("Local")
	require.Error(t, err)
}
