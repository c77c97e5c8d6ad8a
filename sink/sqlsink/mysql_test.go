package sqlsink

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// Statements stay below the largest packet, and each row is in one of them, in order.
func TestStatementsFitIntoPackets(t *testing.T) {
	t.Parallel()
	columns := row.NewColumns([]string{"s"}, []row.Kind{row.Text}, row.Type{Class: row.String})
	p := &plan{packet: mysqlSlack + 103, fields: []field{{column: &column{name: "s", typ: row.Type{Class: row.String}}, proven: true}}}
	var rows []row.Row
	for _, size := range []int{1, 1, 50, 40, 80, 1, 84, 1, 1, 30} {
		r, err := row.Of(columns, strings.Repeat("x", size))
		require.NoError(t, err)
		rows = append(rows, r)
	}
	var all []string
	write := func(statement string) error {
		require.LessOrEqual(t, len(statement), 103)
		require.True(t, strings.HasPrefix(statement, "BEFORE (") && strings.HasSuffix(statement, ") AFTER"), statement)
		all = append(all, strings.Split(strings.TrimSuffix(strings.TrimPrefix(statement, "BEFORE "), " AFTER"), ",")...)
		return nil
	}
	require.NoError(t, mysqlEngine{}.each(p, rows[:6], "BEFORE ", " AFTER", write))
	require.Len(t, all, 6)
	for i, tuple := range all {
		require.Equal(t, "('"+rows[i].Text(0)+"')", tuple)
	}
	err := mysqlEngine{}.each(p, rows[4:8], "BEFORE ", " AFTER", func(string) error { return nil })
	require.NoError(t, err)
	p.packet -= 10
	err = mysqlEngine{}.each(p, rows[4:8], "BEFORE ", " AFTER", func(string) error { return nil })
	require.True(t, refused(err))
	require.ErrorContains(t, err, "max_allowed_packet")
	failure := errors.New("failed")
	require.ErrorIs(t, mysqlEngine{}.each(p, rows[:3], "", "", func(string) error { return failure }), failure)
}
