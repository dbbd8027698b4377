# What is never twice the same.
s/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/<uid>/g
s/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z/<time>/g
s/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?( [+-][0-9]{4})?/<time>/g
s/(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} [+-][0-9]{4}/<time>/g
s/eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+/<token>/g
s/(resourceVersion"?: ?)"[0-9]+"/\1"<revision>"/g
s/(RV|Resource Version:) +[0-9]+/\1 <revision>/g
s,https://127\.0\.0\.1:[0-9]+,https://<server>,g
s,/tmp/(LIVE|MERGED)-[0-9]+,/tmp/\1,g
# Ages in their columns: whatever their length, three blanks come behind.
s/(^|  )[0-9]+(s|m[0-9]*s?)( {2,})/\1<age>   /g
s/(^|  )[0-9]+(s|m[0-9]*s?)$/\1<age>/g
s/[0-9]+s (\(x[0-9]+ over )[0-9]+s\) +/<age> \1<age>)   /g
s/\b(AGE|Age|LAST SEEN|FIRST SEEN) {2,}/\1   /g
