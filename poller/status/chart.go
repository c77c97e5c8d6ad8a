package status

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// chart is a drawing of a history: a stair with a step for each point, in a
// space of 180 by 100, with the newest point at the right.
type chart struct {
	ID    string
	Kind  string // CSS class
	Title string
	Now   string // the current value
	Alt   string // the drawing in words
	Top   string // value at the upper edge
	Line  string // path of the stair
	Area  string // path of the area under the stair
}

func rowsChart(id string, h history) chart {
	values := make([]float64, len(h.points))
	for i, p := range h.points {
		values[i] = float64(p.rows) / step.Seconds()
	}
	c := chart{ID: id + "-rows", Kind: "rows", Title: "Rows per second", Now: rate(h.rate)}
	highest, _ := greatest(values)
	c.Alt = "Rows per second in the last 15 minutes: now " + c.Now + ", highest " + rate(highest) + "."
	top := niceNumber(highest)
	c.Top = count(int64(top))
	c.Line, c.Area = stair(values, top)
	return c
}

func lagChart(id string, h history, lag time.Duration, known bool) chart {
	values := make([]float64, len(h.points))
	for i, p := range h.points {
		values[i] = p.lag.Seconds()
		if p.lag < 0 {
			values[i] = math.NaN()
		}
	}
	c := chart{ID: id + "-lag", Kind: "lag", Title: "Lag", Now: "unknown"}
	if known {
		c.Now = duration(lag)
	}
	highest, found := greatest(values)
	c.Alt = "Lag in the last 15 minutes: now " + c.Now + "."
	if found {
		c.Alt = strings.TrimSuffix(c.Alt, ".") + ", highest " + duration(toDuration(highest)) + "."
		top := niceDuration(toDuration(highest))
		c.Top = duration(top)
		c.Line, c.Area = stair(values, top.Seconds())
	}
	return c
}

func toDuration(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// greatest skips NaN, and reports whether it found a number.
func greatest(values []float64) (m float64, found bool) {
	for _, v := range values {
		if v >= m {
			m, found = v, true
		}
	}
	return m, found
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

// niceDuration rounds d up to a usual step of a clock, at least ten seconds, so
// that a small lag looks small.
func niceDuration(d time.Duration) time.Duration {
	for _, nice := range []time.Duration{
		10 * time.Second, 20 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 6 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if nice >= d {
			return nice
		}
	}
	const day = 24 * time.Hour
	return time.Duration(niceNumber(float64(d)/float64(day))) * day
}

// stair draws values up to top. NaN leaves a gap.
func stair(values []float64, top float64) (line, area string) {
	var l, a strings.Builder
	number := func(b *strings.Builder, op byte, v float64) {
		b.WriteByte(op)
		b.WriteString(strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64))
	}
	height := func(i int) float64 { return math.Round(1000*(1-values[i]/top)) / 10 }
	for i := 0; i < len(values); {
		if math.IsNaN(values[i]) {
			i++
			continue
		}
		x := float64(steps - len(values))
		for _, b := range []*strings.Builder{&l, &a} {
			number(b, 'M', x+float64(i))
		}
		number(&l, ' ', height(i))
		a.WriteString(" 100")
		number(&a, 'V', height(i))
		for ; i < len(values) && !math.IsNaN(values[i]); i++ {
			if i+1 < len(values) && height(i+1) == height(i) {
				continue // extend the flat step
			}
			for _, b := range []*strings.Builder{&l, &a} {
				number(b, 'H', x+float64(i+1))
				if i+1 < len(values) && !math.IsNaN(values[i+1]) {
					number(b, 'V', height(i+1))
				}
			}
		}
		a.WriteString("V100Z")
	}
	return l.String(), a.String()
}
