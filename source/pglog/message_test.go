package pglog

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// wire builds messages as the server sends them.
type wire []byte

func (w wire) u8(v byte) wire     { return append(w, v) }
func (w wire) u16(v uint16) wire  { return binary.BigEndian.AppendUint16(w, v) }
func (w wire) u32(v uint32) wire  { return binary.BigEndian.AppendUint32(w, v) }
func (w wire) u64(v uint64) wire  { return binary.BigEndian.AppendUint64(w, v) }
func (w wire) text(s string) wire { return append(append(w, s...), 0) }

func (w wire) tuple(part byte, values ...string) wire {
	w = w.u8(part).u16(uint16(len(values)))
	for _, v := range values {
		switch v {
		case "NULL":
			w = w.u8(cellNull)
		case "UNCHANGED":
			w = w.u8(cellUnchanged)
		default:
			w = append(w.u8(cellText).u32(uint32(len(v))), v...)
		}
	}
	return w
}

func beginOf(commit uint64, xid uint32) wire { return wire{msgBegin}.u64(commit).u64(0).u32(xid) }
func commitOf(at, end uint64) wire           { return wire{msgCommit}.u8(0).u64(at).u64(end).u64(0) }

func relationOf(identity byte) wire {
	return wire{msgRelation}.u32(7).text("public").text("t").u8(identity).u16(2).u8(1).text("id").u32(23).u32(0xffffffff).u8(0).text("v").u32(25).u32(0xffffffff)
}

func changeOf(kind byte) wire { return wire{kind}.u32(7) }

// testStream returns a stream that describes tables without a server.
func testStream(from cursor) *stream {
	return &stream{from: from, given: from, now: from, upTo: 1 << 40, limit: 1 << 20, tables: map[uint32]*relation{}, wanted: func(layout) bool { return true },
		shape: func(_ context.Context, l layout, _ string) (*shape, error) {
			var names, keys []string
			s := &shape{layout: l, table: tableName(l.schema, l.name), convert: make([]conversion, len(l.columns))}
			for i, c := range l.columns {
				names = append(names, c.name)
				if c.key {
					s.key, keys = append(s.key, i), append(keys, c.name)
				}
			}
			s.columns, s.ofKey = row.NewColumns(names, nil), row.NewColumns(keys, nil)
			return s, nil
		}}
}

// deliver reads messages, and returns the changes in words with the cursor after each.
func deliver(t *testing.T, st *stream, messages ...wire) (list []string, err error) {
	t.Helper()
	for _, raw := range messages {
		m, err := st.read(t.Context(), raw)
		if err != nil {
			return list, err
		}
		for m != nil || len(st.queue) > 0 {
			if m == nil {
				rel := st.queue[0]
				st.queue = st.queue[1:]
				if m, err = st.change(msgTruncate, rel, nil); err != nil {
					return list, err
				}
				if m == nil {
					continue
				}
			}
			e := entry{relation: m.rel, op: row.Truncate, row: -1, old: -1, key: -1, tx: m.tx}
			if m.kind != msgTruncate {
				if e, _, err = m.rel.add(m); err != nil {
					return list, err
				}
			}
			c := changes([]entry{e})[0]
			require.NoError(t, m.after.encode().Validate())
			list = append(list, strings.TrimSpace(c.String()+" "+c.Transaction))
			m = nil
		}
	}
	return list, nil
}

func TestTransactionsOfTheLog(t *testing.T) {
	t.Parallel()
	log := []wire{
		beginOf(100, 5), relationOf('d'), changeOf(msgInsert).tuple('N', "1", "a"), changeOf(msgUpdate).tuple('K', "1", "NULL").tuple('N', "2", "UNCHANGED"), commitOf(100, 120),
		beginOf(200, 4), {msgOrigin}, changeOf(msgDelete).tuple('K', "2", "NULL"), wire{msgTruncate}.u32(1).u8(0).u32(7), commitOf(200, 220),
	}
	all := []string{"insert of public.t 5", "update of public.t 5", "delete of public.t 4", "truncate of public.t 4"}
	origin := cursor{origin: "c", position: position{at: 50}}
	got, err := deliver(t, testStream(origin), log...)
	require.NoError(t, err)
	assert.Equal(t, all, got)

	// From each cursor the rest follows.
	for i, from := range []cursor{
		{position: position{100, 1}, last: mark{100, 5, 0}}, {position: position{100, 2}, last: mark{100, 5, 0}},
		{position: position{200, 1}, last: mark{200, 4, 0}}, {position: position{220, 0}, last: mark{200, 4, 0}}, // no change is left
	} {
		got, err := deliver(t, testStream(from), log...)
		require.NoError(t, err)
		assert.Equal(t, strings.Join(all[i+1:], ", "), strings.Join(got, ", "))
	}

	// A log without the transactions that were delivered is another one.
	for _, from := range []cursor{
		{position: position{100, 1}, last: mark{100, 6, 0}},  // another transaction in its place
		{position: position{100, 1}, last: mark{100, 5, 1}},  // at another time
		{position: position{100, 3}, last: mark{100, 5, 0}},  // fewer changes
		{position: position{150, 1}, last: mark{150, 5, 0}},  // none in its place
		{position: position{300, 0}, last: mark{100, 5, 0}},  // one that was not there
		{position: position{300, 0}, last: mark{}},           // one, where none was
		{position: position{190, 0}, last: mark{170, 12, 0}}, // the last one is missing
	} {
		_, err := deliver(t, testStream(from), log...)
		require.ErrorIs(t, err, errDiverged, "%+v", from)
	}
	st := testStream(cursor{position: position{at: 300}, last: mark{250, 9, 0}})
	_, err = deliver(t, st, log...)
	require.NoError(t, err)
	require.ErrorIs(t, st.finished(), errDiverged, "the last transaction is missing at the end")
	st.confirmed = 260
	require.ErrorIs(t, st.finished(), errEnded, "the slot has passed it")
}

func TestTransactionsOfTheCopy(t *testing.T) {
	t.Parallel()
	seen := filter{snapshot: snapshot{min: 5, max: 8, running: []uint64{6}}, until: 250}
	log := []wire{beginOf(100, 5), relationOf('d'), changeOf(msgInsert).tuple('N', "1", "a"), commitOf(100, 120),
		beginOf(200, 6), changeOf(msgInsert).tuple('N', "2", "a"), commitOf(200, 220),
		beginOf(300, 7), changeOf(msgInsert).tuple('N', "3", "a"), commitOf(300, 320)}
	st := testStream(cursor{position: position{at: 50}, seen: seen})
	got, err := deliver(t, st, log...)
	require.NoError(t, err)
	assert.Equal(t, []string{"insert of public.t 6", "insert of public.t 7"}, got, "after its end no snapshot sees a transaction")
	assert.Zero(t, st.now.seen.until, "the filter is dropped")
	seen.repeated = true
	got, err = deliver(t, testStream(cursor{position: position{at: 50}, seen: seen}), log...)
	require.NoError(t, err)
	assert.Equal(t, []string{"upsert of public.t 6", "insert of public.t 7"}, got)
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	s, err := parseSnapshot("4294967290:4294967300:4294967290,4294967298")
	require.NoError(t, err)
	for xid, want := range map[uint32]bool{4294967289: true, 4294967290: false, 4294967291: true, 2: false, 3: true, 4: false, 5: false} {
		assert.Equal(t, want, s.sees(xid), "%d", xid)
	}
	back, err := decodeSnapshot(s.String())
	require.NoError(t, err)
	assert.Equal(t, s, back)
	for _, text := range []string{"", "1:2", "a:2:", "1:2:x", "1:2:3:4"} {
		_, err := parseSnapshot(text)
		require.Error(t, err, text)
	}
}

func TestCursors(t *testing.T) {
	t.Parallel()
	seen := filter{snapshot: snapshot{min: 700, max: 1 << 33, running: []uint64{700, 701}}, until: 1 << 35, repeated: true}
	for _, c := range []cursor{
		{origin: "7.5.s", position: position{at: 0x16B374D848, n: 3}, last: mark{0x16B374D848, 77, 1 << 50}},
		{origin: "7.5.s", position: position{at: 1}, seen: seen},
		{origin: "7.5.s", copying: true, list: "00ff", table: 2, inner: "a;b;c", seen: seen},
		{origin: "7.5.s", copying: true, list: "00ff", seen: seen},
	} {
		text := c.encode()
		require.NoError(t, text.Validate())
		back, err := decodeCursor(text)
		require.NoError(t, err)
		assert.Equal(t, c, back)
		if !c.copying {
			_, err = decodeCursor(text + "~")
			require.Error(t, err)
		}
	}
}

func TestInstants(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-01-02 03:04:05.6+00": "2026-01-02T03:04:05.6Z", "0044-03-15 00:00:00+00 BC": "0044-03-15T00:00:00Z BC",
		"infinity": "infinity", "-infinity": "-infinity", "2026-01-02 03:04:05+02": "2026-01-02 03:04:05+02",
	} {
		assert.Equal(t, want, string(appendInstant(nil, []byte(text))))
	}
	b := (&decoder{b: beginOf(1, 2)[1:]}).begin()
	assert.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), b.at())
}

// recorded are messages of a Postgres 15: an insert, an update of the key, and a delete with a truncation.
var recorded = []string{
	"42000000000152854000030481ed92a9bc000002d6",
	"52000040007075626c69630074006400020169640000000017ffffffff00760000000019ffffffff",
	"49000040004e0002740000000131740000000161",
	"43000000000001528540000000000152857000030481ed92a9bc",
	"42000000000152860800030481ed92ad41000002d7",
	"55000040004b00027400000001316e4e0002740000000132740000000161",
	"43000000000001528608000000000152863800030481ed92ad41",
	"4200000000015291f800030481ed92f09d000002d8",
	"44000040004b00027400000001326e",
	"54000000010000004000",
	"430000000000015291f8000000000152936800030481ed92f09d",
}

func recordedMessages(tb testing.TB) (list []wire) {
	tb.Helper()
	for _, text := range recorded {
		raw, err := hex.DecodeString(text)
		require.NoError(tb, err)
		list = append(list, raw)
	}
	return list
}

func TestRecordedMessages(t *testing.T) {
	t.Parallel()
	st := testStream(cursor{})
	got, err := deliver(t, st, recordedMessages(t)...)
	require.NoError(t, err)
	assert.Equal(t, []string{"insert of public.t 726", "update of public.t 727", "delete of public.t 728", "truncate of public.t 728"}, got)
	assert.Equal(t, cursor{position: position{at: 0x1529368}, last: mark{0x15291f8, 728, 0x00030481ed92f09d}}, st.now)
}

func FuzzMessages(f *testing.F) {
	for _, w := range recordedMessages(f) {
		f.Add([]byte(w))
	}
	for _, w := range []wire{relationOf('f'), beginOf(1, 2), commitOf(1, 2), changeOf(msgInsert).tuple('N', "1", "NULL"), changeOf(msgUpdate).tuple('O', "1", "a").tuple('N', "2", "UNCHANGED"),
		changeOf(msgDelete).tuple('K', "1", "NULL"), wire{msgTruncate}.u32(0xffffffff).u8(0).u32(7), {msgType}, {msgOrigin}, {'?'}, changeOf(msgInsert).u8('N').u16(0xffff)} {
		f.Add([]byte(w))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		st := testStream(cursor{})
		for _, message := range [][]byte{beginOf(10, 2), relationOf('d'), raw, raw} {
			m, err := st.read(t.Context(), message)
			if err != nil || m == nil {
				continue
			}
			size := 0
			if m.kind != msgTruncate {
				_, size, err = m.rel.add(m)
			}
			if err == nil && size > 1<<12+64*len(raw) {
				t.Fatalf("%d bytes of a message became %d", len(raw), size)
			}
		}
		if len(st.queue) > len(raw) {
			t.Fatalf("%d tables in a message of %d bytes", len(st.queue), len(raw))
		}
	})
}
