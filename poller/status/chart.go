package status

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// chart is a drawing of a history: a stair with a step for each point, in a
// space of 180 by 100, with the newest point at the right.
type chart struct {
	ID      string
	Kind    string // CSS class
	Title   string
	Now     string // the current value
	Highest string // empty if none is known
	Top     string // value at the upper edge
	Line    string // path of the stair
	Area    string // path of the area under the stair
}

// Rows is the chart of the rows, for page.html.
func (r reading) Rows() chart {
	values := make([]float64, len(r.points))
	for i, p := range r.points {
		values[i] = float64(p.rows) / step.Seconds()
	}
	c := chart{ID: fmt.Sprintf("pipeline-%d-rows", r.ID), Kind: "rows", Title: "Rows per second", Now: rate(r.rate)}
	return c.draw(values, niceNumber, rate)
}

// Delay is the chart of the lag, for page.html.
func (r reading) Delay() chart {
	values := make([]float64, len(r.points))
	for i, p := range r.points {
		values[i] = float64(p.lag)
		if p.lag < 0 {
			values[i] = math.NaN()
		}
	}
	c := chart{ID: fmt.Sprintf("pipeline-%d-lag", r.ID), Kind: "lag", Title: "Lag", Now: "unknown"}
	if lag, known := r.Lag(r.now); known {
		c.Now = duration(lag)
	}
	return c.draw(values, niceDuration, func(d float64) string { return duration(time.Duration(d)) })
}

// draw draws values, where NaN is unknown. nice rounds up to the upper edge, and
// words writes a value.
func (c chart) draw(values []float64, nice func(float64) float64, words func(float64) string) chart {
	known := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(known) > 0 {
		highest := slices.Max(known)
		top := nice(highest)
		c.Highest, c.Top = words(highest), strings.TrimSuffix(words(top), ".0")
		c.Line, c.Area = stair(values, top)
	}
	return c
}

// niceNumber rounds v up to one digit and zeros. It skips 7 and 9, which do not
// halve well on an axis.
func niceNumber(v float64) float64 {
	for unit := 1.0; ; unit *= 10 {
		for _, f := range []float64{1, 2, 3, 4, 5, 6, 8} {
			if f*unit >= v {
				return f * unit
			}
		}
	}
}

// niceDuration rounds nanoseconds up to a usual step of a clock, at least ten
// seconds, so that a small lag looks small.
func niceDuration(d float64) float64 {
	for _, nice := range []time.Duration{
		10 * time.Second, 20 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 6 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if float64(nice) >= d {
			return float64(nice)
		}
	}
	const day = float64(24 * time.Hour)
	return niceNumber(d/day) * day
}

// stair draws values up to top. NaN leaves a gap.
func stair(values []float64, top float64) (line, area string) {
	number := func(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }
	height := func(i int) string { return number(100 * (1 - values[i]/top)) }
	known := func(i int) bool { return i < len(values) && !math.IsNaN(values[i]) }
	first := steps - len(values)
	for i := range values {
		if !known(i) {
			continue
		}
		if i == 0 || !known(i-1) { // a stair begins
			x := number(float64(first + i))
			line += "M" + x + " " + height(i)
			area += "M" + x + " 100V" + height(i)
		}
		if known(i+1) && height(i+1) == height(i) {
			continue // extend the flat step
		}
		next := "H" + number(float64(first+i+1))
		if known(i + 1) {
			next += "V" + height(i+1)
		}
		line += next
		area += next
		if !known(i + 1) {
			area += "V100Z"
		}
	}
	return line, area
}
